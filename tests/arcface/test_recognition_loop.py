"""Training: it learns, it goes on bit for bit where it stopped, and it says which batch broke it."""

import dataclasses
import itertools
import math
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcface import recognition_data, recognition_trainer
from arcface.choices import HEADS
from arcface.recognition_config import RecognitionConfig
from arcface.recognition_data import TrainingPictures
from arcface.recognition_loop import train_recognition
from arcface.recognition_run import METRICS_FILE, MODEL_FILE, remove_run
from arcface.recognition_trainer import NotFinite, RecognitionTrainer
from arcface.weights import RecognitionModel, load_recognition
from dnnlib.errors import UserError
from dnnlib.files import append_line, read_json, read_lines
from tests.arcface.people import NoisyPeople, people

CONFIG = RecognitionConfig(
    backbone="mbfn",
    steps=6,
    batch=8,
    tick=2,
    snap=2,
    spectra="vis+nir",
    dropout=0.1,
    scale=16.0,
    margin=0.2,
    lr=0.05,
    data=people().record(),
)


def train(outdir: Path, config: RecognitionConfig = CONFIG, stop_at: int = 0, **extra: Any) -> RecognitionModel | None:
    """stop_at: steps of this sitting after which it is asked to stop; 0: never."""
    asked = itertools.count(1)
    stop = (lambda: next(asked) == stop_at) if stop_at else (lambda: False)
    return train_recognition(config, people(), outdir, show_progress=False, stop=stop, **extra)


def assert_same_weights(one: RecognitionModel, other: RecognitionModel) -> None:
    state = other.backbone.state_dict()
    for name, values in one.backbone.state_dict().items():
        assert torch.equal(values, state[name]), name


def test_stopping_and_going_on_is_not_stopping_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole")
    torch.rand(7)  # whatever happens outside between the slices
    assert train(tmp_path / "sliced", stop_at=1) is None
    append_line(tmp_path / "sliced" / "stats.jsonl", {"step": 2})  # of steps whose state was lost
    torch.rand(3)
    monkeypatch.setattr(recognition_data, "MEMORY_BYTES", 0)  # streamed by workers from here on
    assert train(tmp_path / "sliced", stop_at=3, workers=2) is None
    sliced = train(tmp_path / "sliced")
    assert whole is not None and sliced is not None
    assert whole.fingerprint == sliced.fingerprint
    assert_same_weights(whole, sliced)
    assert [line["step"] for line in read_lines(tmp_path / "sliced" / "stats.jsonl")] == [2, 4, 6]
    assert_same_weights(load_recognition(tmp_path / "whole" / MODEL_FILE), whole)


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    train(tmp_path, dataclasses.replace(CONFIG, steps=1))
    assert torch.equal(torch.rand(4), expected)


def test_it_learns_and_records(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=40, tick=10, dropout=0.0)
    seen: list[str] = []

    def evaluate(model: RecognitionModel) -> list[dict[str, Any]]:
        assert not model.backbone.training
        seen.append(model.fingerprint)
        return [{"metric": "eer", "spectrum": "vis", "value": 0.25}]

    model = train(tmp_path, config, evaluate=evaluate)
    assert model is not None and model.training["path"] == "PEOPLE" and model.training["spectra"] == "vis+nir"
    stats = read_lines(tmp_path / "stats.jsonl")
    assert stats[-1]["accuracy"] > 0.9 and stats[-1]["loss"] < 0.5 * stats[0]["loss"]
    assert {"step", "loss", "accuracy", "lr", "grad_norm", "images_per_second"} <= set(stats[0])
    assert read_lines(tmp_path / METRICS_FILE) == [{"step": 40, "metric": "eer", "spectrum": "vis", "value": 0.25}]
    assert read_json(tmp_path / "config.json")["augment"]["flip"] == 0.5
    again = train(tmp_path, config, evaluate=evaluate)  # all is done: nothing is trained or tested again
    assert again is not None and again.fingerprint == model.fingerprint and seen == [model.fingerprint]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    remove_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    train(tmp_path, stop_at=1)
    with pytest.raises(UserError, match=r"--outdir: .* another lr"):
        train(tmp_path, dataclasses.replace(CONFIG, lr=0.01))


def test_a_run_goes_on_where_its_pictures_have_moved_to(tmp_path: Path) -> None:
    here = {"path": "here", "digest": "12", "real": {"path": "there", "pictures": 3}}
    train(tmp_path, dataclasses.replace(CONFIG, data=here), stop_at=1)
    moved = {**here, "path": "elsewhere", "real": {"path": "there, too", "pictures": 3}}
    assert train(tmp_path, dataclasses.replace(CONFIG, data=moved), stop_at=1) is None
    assert read_json(tmp_path / "config.json")["data"] == moved
    with pytest.raises(UserError, match=r"--outdir: .* another data"):
        train(tmp_path, dataclasses.replace(CONFIG, data={**moved, "digest": "13"}))


def test_a_loss_that_is_not_finite_names_the_batch_and_keeps_no_state(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, lr=1e30, warmup=0.0, clip=1e30)
    with pytest.raises(UserError, match=r"--lr: step \d: the loss is .*(VIS|NIR)/\d_\d\.png.* and 4 more"):
        train(tmp_path, config)
    assert not (tmp_path / MODEL_FILE).exists()


def test_a_killed_reader_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: NoisyPeople, index: int) -> np.ndarray:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images[index]

    monkeypatch.setattr(NoisyPeople, "decode", decode)
    for memory in (0, 1 << 30):  # streamed, and read before the first step
        monkeypatch.setattr(recognition_data, "MEMORY_BYTES", memory)
        with pytest.raises(UserError, match="^--workers: a process that reads pictures was killed"):
            train(tmp_path / str(memory), workers=1)
    assert not multiprocessing.active_children()


def test_a_broken_state_is_named(tmp_path: Path) -> None:
    train(tmp_path, stop_at=2)
    (state,) = tmp_path.glob("training-state-*.pt")
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"--outdir: .*training-state-00000002.pt.*truncated"):
        train(tmp_path)


# ----------------------------------------------------------------------------
# Half precision, heads, weights to begin with.


@pytest.mark.parametrize("head", list(HEADS))
def test_bfloat16_keeps_weights_and_the_head_in_float32(head: str) -> None:
    found = people()
    kind = HEADS[head]
    config = dataclasses.replace(CONFIG, precision="bf16", head=head, scale=kind.scale, margin=kind.margin)
    trainer = RecognitionTrainer(config, found.classes, torch.device("cpu"))
    seen: list[torch.Tensor] = []
    trainer.head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    convolution = next(module for module in trainer.backbone.modules() if isinstance(module, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: seen.append(output))
    measured = trainer.step(*first_batch(found))
    assert [values.dtype for values in seen] == [torch.bfloat16, torch.float32]
    assert math.isfinite(measured["loss"]) and all(p.dtype == torch.float32 for p in trainer.parameters)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_float16_learns_on_a_gpu(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, precision="fp16", steps=60, tick=10, dropout=0.0)
    assert train(tmp_path, config, device="cuda") is not None
    assert read_lines(tmp_path / "stats.jsonl")[-1]["accuracy"] > 0.9


def first_batch(found: TrainingPictures) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.stack([torch.from_numpy(found.decode(index)).permute(2, 0, 1) for index in range(8)])
    return images, torch.from_numpy(found.labels[:8])


def halves(scale: float) -> RecognitionTrainer:
    """A trainer in float16, which the CPU can do, too, whose loss is multiplied by `scale`."""
    trainer = RecognitionTrainer(dataclasses.replace(CONFIG, precision="fp16"), 4, torch.device("cpu"))
    trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": scale})
    return trainer


def test_overflow_in_float16_leaves_steps_out_until_the_scale_fits() -> None:
    trainer, batch = halves(2.0**20), first_batch(people())
    before = [parameter.clone() for parameter in trainer.parameters]
    measured: list[dict[str, float]] = []
    while not measured or measured[-1]["skipped"]:
        assert all(torch.equal(one, other) for one, other in zip(before, trainer.parameters, strict=True))
        measured.append(trainer.step(*batch))
    assert not any(math.isfinite(one["grad_norm"]) for one in measured[:-1]) and math.isfinite(
        measured[-1]["grad_norm"]
    )
    assert trainer.scaler.get_scale() == 2.0 ** (21 - len(measured)) and trainer.steps_done == len(measured) > 1
    assert all(parameter.isfinite().all() for parameter in trainer.parameters)
    assert not torch.equal(before[0], trainer.parameters[0])


def test_overflow_without_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition_trainer, "MAX_SKIPPED", 3)
    trainer, batch = halves(2.0**100), first_batch(people())
    assert [trainer.step(*batch)["skipped"] for _ in range(2)] == [1, 1]
    with pytest.raises(NotFinite, match="the loss is [0-9.]* and the gradient's norm (nan|inf)"):
        trainer.step(*batch)


def test_a_loss_that_is_not_finite_is_no_overflow() -> None:
    trainer = halves(1.0)
    with torch.no_grad():
        trainer.parameters[0].fill_(math.nan)
    with pytest.raises(NotFinite, match="the loss is nan"):
        trainer.step(*first_batch(people()))


def test_weights_decay_and_biases_norms_and_places_do_not() -> None:
    config = dataclasses.replace(CONFIG, backbone="vit_t", input_size=112, dropout=0.0)
    trainer = RecognitionTrainer(config, 4, torch.device("cpu"))
    decayed, others = (group["params"] for group in trainer.optimizer.param_groups)
    assert {parameter.ndim for parameter in decayed} == {2, 4} and len(decayed) == 12 * 4 + 2 + 1 + 1
    assert {tuple(parameter.shape) for parameter in others if parameter.ndim > 1} == {(1, 144, 256), (1, 1, 256)}


def test_tests_on_the_way_come_once_each_though_a_sitting_ends_amidst(tmp_path: Path) -> None:
    config, tested = dataclasses.replace(CONFIG, eval_every=2), []

    def evaluate(model: RecognitionModel) -> list[dict[str, Any]]:
        tested.append(model.fingerprint)
        if len(tested) == 2:
            raise KeyboardInterrupt  # after the state of step 4 was written
        return [{"metric": "accuracy", "benchmark": "lfw", "spectrum": "vis", "value": 0.5}]

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, config, evaluate=evaluate)
    train(tmp_path, config, evaluate=evaluate)
    assert [line["step"] for line in read_lines(tmp_path / METRICS_FILE)] == [2, 4, 6]
    assert tested[1] == tested[2] and len(set(tested)) == 3


def test_weights_to_begin_with(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=2)
    first = train(tmp_path / "first", config)
    assert first is not None
    start = {"path": str(tmp_path / "first" / MODEL_FILE), "fingerprint": first.fingerprint}
    still = dataclasses.replace(config, init_from=start, lr=1e-30, momentum=0.0)
    second = train(tmp_path / "second", still)
    assert second is not None
    for (name, weights), before in zip(second.backbone.named_parameters(), first.backbone.parameters(), strict=True):
        torch.testing.assert_close(weights, before, atol=1e-12, rtol=0, msg=name)
