"""Training goes on where it stopped, bit for bit; its files are whole; what is not a state is refused."""

import dataclasses
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.files import read_lines
from torch_utils.training_stats import Stats
from training.config import TrainingConfig
from training.dataset import EndlessSampler, PairedFaces
from training.ema import Ema
from training.phases import Phase, lazy_adam
from training.snapshots import GENERATOR_FORMAT, load_generator, load_state, save_generator, save_state
from training.trainer import Trainer
from training.training_loop import train

METADATA = {"recognition_model": "test-model", "feature_norm": 2.5}
CPU = torch.device("cpu")


def same(first: Any, second: Any) -> bool:
    """Whether two nested states are equal to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def trained(
    config: TrainingConfig, dataset: PairedFaces, run_dir: Path, state: dict[str, Any] | None = None
) -> Trainer:
    """A trainer that has run to the end of its configuration, from `state` where there is one."""
    trainer = Trainer(config, CPU)
    if state is not None:
        trainer.load(state, "--resume")
    train(trainer, dataset, run_dir, METADATA)
    return trainer


def without_time(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "counters": {k: v for k, v in state["counters"].items() if k != "seconds"}}


def test_resumed_training_equals_training_that_never_stopped(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path
) -> None:
    """80 pictures at once, against 40, a state on disk, and 40 more: every phase, ADA and EMA among them."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "half").mkdir()
    whole = trained(config, dataset, tmp_path / "whole")
    half = dataclasses.replace(config, total_kimg=config.total_kimg / 2)
    trained(half, dataset, tmp_path / "half")
    state = load_state(tmp_path / "half/training-state-000000.pt")
    assert state["counters"]["images_seen"] == 40
    resumed = trained(config, dataset, tmp_path / "half", state)
    assert resumed.iteration == 20 and any(float(pipe.p) > 0 for pipe in resumed.pipes.values())
    assert same(without_time(whole.state()), without_time(resumed.state()))
    first, second = ((tmp_path / run / "network-snapshot-000000.safetensors").read_bytes() for run in ("whole", "half"))
    assert first == second


def test_a_run_leaves_its_files(config: TrainingConfig, dataset: PairedFaces, tmp_path: Path) -> None:
    trainer = trained(config, dataset, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"stats.jsonl", "reals-vis.png", "reals-nir.png", "fakes-000000-vis.png", "fakes-000000-nir.png"} <= names
    lines = read_lines(tmp_path / "stats.jsonl")
    assert [line["progress/kimg"] for line in lines] == [0.04, 0.08]
    for name in ("vis", "nir"):
        assert {f"loss/g_{name}", f"loss/d_{name}", f"scores/real_{name}", f"augment/p_{name}"} <= lines[0].keys()
    assert {"loss/r1_vis", "loss/r1_nir", "loss/path_length"} <= lines[0].keys()
    assert {"diversity/vis", "diversity/nir", "diversity/across_vis", "diversity/across_nir"} <= lines[0].keys()
    loaded = load_generator(tmp_path / "network-snapshot-000000.safetensors")
    assert loaded.metadata == {**METADATA, "images_seen": 80}
    z, c = torch.randn(2, 8), torch.randn(2, 8)
    for spectrum, image in trainer.ema.averaged(z, c).items():
        assert torch.equal(loaded(z, c)[spectrum], image)


def test_training_moves_every_network(config: TrainingConfig, dataset: PairedFaces, tmp_path: Path) -> None:
    fresh, later = Trainer(config, CPU), trained(config, dataset, tmp_path)
    for name, before in fresh._stateful().items():
        if isinstance(before, torch.nn.Module) and name.startswith(("generator", "discriminator")):
            after = later._stateful()[name]
            moved = [not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True)]
            assert sum(moved) > 0.8 * len(moved), name


def test_gradients_in_rounds_equal_those_of_the_whole_batch(config: TrainingConfig) -> None:
    """R1, which has no minibatch statistics across samples of other rounds when the group size is 1."""
    discriminators = {name: {**kwargs, "mbstd_group": 1} for name, kwargs in config.discriminators.items()}
    config = dataclasses.replace(config, discriminators=discriminators, augment=(), ada_target=None)
    reals = {"vis": torch.randn(4, 3, 16, 16), "nir": torch.randn(4, 1, 16, 16)}
    c = torch.randn(4, 8)
    gradients = []
    for size in (4, 2):
        trainer = Trainer(dataclasses.replace(config, batch_gpu=size), CPU)
        phase = next(phase for phase in trainer.phases if phase.name == "discriminator_reg")
        phase.run(trainer._rounds(phase, reals, c, c))
        gradients.append([parameter.grad for parameter in phase.parameters if parameter.grad is not None])
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*gradients, strict=True))


def test_settings_stay_the_configurations_on_resume(config: TrainingConfig, tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", Trainer(config, CPU).state())
    changed = dataclasses.replace(config, learning_rate=0.1, ada_target=None, augment_p=0.7)
    trainer = Trainer(changed, CPU)
    trainer.load(load_state(tmp_path / "state.pt"), "--resume")
    assert trainer.optimizers["generator"].param_groups[0]["lr"] == pytest.approx(0.1 * 4 / 5)
    assert [float(pipe.p) for pipe in trainer.pipes.values()] == pytest.approx([0.7, 0.7])


def test_a_resumed_run_forgets_the_ticks_behind_its_state(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path
) -> None:
    half = dataclasses.replace(config, total_kimg=config.total_kimg / 2)
    trained(half, dataset, tmp_path)
    state = load_state(tmp_path / "training-state-000000.pt")
    for _ in range(2):  # the second time, the first one's tick lies behind the state
        trained(config, dataset, tmp_path, state)
        assert [line["progress/kimg"] for line in read_lines(tmp_path / "stats.jsonl")] == [0.04, 0.08]


def test_asked_to_stop_it_saves_the_moment_and_goes_on_from_there(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path
) -> None:
    """Amidst a tick and between two of ADA's updates; the second sitting is none the wiser."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = trained(config, dataset, tmp_path / "whole")
    asked = iter([False] * 6 + [True] * 2)
    stopped = Trainer(config, CPU)
    assert not train(stopped, dataset, tmp_path / "parts", METADATA, stop=lambda: next(asked))
    assert stopped.iteration == 7 and list(asked) == [True]
    resumed = trained(config, dataset, tmp_path / "parts", load_state(tmp_path / "parts/training-state-000000.pt"))
    assert same(without_time(whole.state()), without_time(resumed.state()))
    ticks = [line["progress/kimg"] for line in read_lines(tmp_path / "parts/stats.jsonl")]
    assert ticks == [0.028, 0.04, 0.08]


def test_metrics_are_noted_and_choose_the_best_network(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path
) -> None:
    """40 pictures score best of 20, 40, ..., 80; what was best is remembered by a second sitting."""
    values = {20: 5.0, 40: 2.0, 60: 3.0, 80: 2.5, 100: 2.25}
    trainer = Trainer(dataclasses.replace(config, kimg_per_tick=0.02), CPU)

    def measure(snapshot: Path, images_seen: int) -> dict[str, float]:
        assert load_generator(snapshot).metadata["images_seen"] == images_seen
        return {"fd_vis": values[images_seen], "other": 0.0}

    assert train(trainer, dataset, tmp_path, METADATA, measure, best_by=("fd_vis", False))
    trainer.config = dataclasses.replace(trainer.config, total_kimg=0.1)
    assert train(trainer, dataset, tmp_path, METADATA, measure, best_by=("fd_vis", False))
    assert load_generator(tmp_path / "best-network.safetensors").metadata["images_seen"] == 40
    noted = [line for line in read_lines(tmp_path / "stats.jsonl") if "metrics/fd_vis" in line]
    assert [(line["progress/kimg"], line["metrics/fd_vis"]) for line in noted] == [
        (images / 1000, value) for images, value in values.items()
    ]


def test_a_full_disk_leaves_the_last_good_state(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = dataclasses.replace(config, total_kimg=config.total_kimg / 2)
    trained(half, dataset, tmp_path)
    good = (tmp_path / "training-state-000000.pt").read_bytes()
    write = Path.write_bytes

    def fill_up(path: Path, data: bytes) -> int:
        if "training-state" not in path.name:
            return write(path, data)
        write(path, bytes(data[: len(data) // 2]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(UserError, match=r"training-state-000000\.pt: the disk is full"):
        trained(config, dataset, tmp_path, load_state(tmp_path / "training-state-000000.pt"))
    assert (tmp_path / "training-state-000000.pt").read_bytes() == good
    assert not list(tmp_path.glob(".*"))


def test_a_step_with_nan_is_skipped() -> None:
    layer = torch.nn.Linear(1, 1)
    before = layer.weight.detach().clone()

    def backward(factor: float, weight: float) -> None:
        (layer(torch.ones(1, 1)).sum() * factor * weight).backward()

    phase = Phase("test", [layer], lazy_adam(layer.parameters(), 0.1, 0), backward, "latents")
    assert not phase.run([(float("nan"),)]) and torch.equal(layer.weight, before)
    assert phase.run([(1.0,)]) and not torch.equal(layer.weight, before)


def test_a_gpu_that_is_too_small_is_told_in_one_line(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(UserError, match=r"^--batch-gpu: the GPU's memory is full; .*\(CUDA out of memory\. Tried"):
        trained(config, dataset, tmp_path)


def test_too_many_skipped_steps_end_training(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.trainer.MAX_SKIPPED_IN_A_ROW", 3)
    monkeypatch.setattr("torch_utils.distributed.all_finite", lambda gradients: False)
    with pytest.raises(
        UserError, match="^--lr: training has diverged: the last 3 gradients of generator_main were not"
    ):
        trained(config, dataset, tmp_path)


def test_skipped_steps_between_good_ones_do_not_end_training(
    config: TrainingConfig, dataset: PairedFaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second step of each phase overflows, as float16's may now and then."""
    answers: dict[int, Iterator[bool]] = {}

    def every_second(gradients: list[torch.Tensor]) -> bool:
        return next(answers.setdefault(len(gradients), itertools.cycle([False, True])))

    monkeypatch.setattr("training.trainer.MAX_SKIPPED_IN_A_ROW", 3)
    monkeypatch.setattr("torch_utils.distributed.all_finite", every_second)
    trainer = trained(config, dataset, tmp_path)
    assert trainer.iteration == 20 and trainer.skipped > 10


def test_lazy_adam_by_hand() -> None:
    optimizer = lazy_adam(torch.nn.Linear(1, 1).parameters(), lr=0.5, interval=4)
    group = optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.4) and group["betas"] == pytest.approx((0, 0.99**0.8))


def test_ema_half_life_by_hand() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(module, half_life=100, rampup=0.05)
    with torch.no_grad():
        ema.averaged.weight.fill_(0)
        module.weight.fill_(1)
    ema.update(module, images_seen=10**6, batch=100)
    assert ema.averaged.weight.item() == pytest.approx(0.5)
    assert ema.beta(images_seen=1000, batch=50) == pytest.approx(0.5)  # ramp: half-life 50
    assert ema.beta(images_seen=0, batch=50) == 0


def test_the_order_depends_on_the_position_alone() -> None:
    order = list(itertools.islice(EndlessSampler(10, seed=3), 35))
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10)) and order[:10] != order[10:20]
    assert list(itertools.islice(EndlessSampler(10, seed=3, start=13), 9)) == order[13:22]
    shared = [list(itertools.islice(EndlessSampler(10, seed=3, rank=rank, world_size=3), 10)) for rank in range(3)]
    assert [index for group in zip(*shared, strict=True) for index in group] == order[:30]


def test_mirrored_pairs_share_the_feature(dataset: PairedFaces) -> None:
    images, feature = dataset[2]
    flipped, same_feature = dataset[2 + 12]
    assert len(dataset) == 24 and torch.equal(feature, same_feature)
    for name in images:
        assert torch.equal(images[name].flip(2), flipped[name])


def test_stats_by_hand() -> None:
    stats = Stats()
    stats.report("a", torch.tensor([1.0, 2.0]))
    stats.report("a", 6.0)
    moments = stats.collect()["a"]
    assert (moments.number, moments.mean, moments.sd) == pytest.approx((3, 3.0, np.std([1, 2, 6])))
    assert stats.collect() == {}


@pytest.mark.cuda
def test_stats_of_a_gpu_beside_plain_numbers() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    stats = Stats()
    stats.report("a", torch.ones(2, device="cuda"))
    stats.report("b", 3.0)
    assert {name: moments.mean for name, moments in stats.collect().items()} == {"a": 1, "b": 3}


# ----------------------------------------------------------------------------
# What is refused.


def test_generators_that_are_none_are_refused(config: TrainingConfig, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(UserError, match="--gen-model: .*no such file"):
        load_generator(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_bytes(b"hello")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    huge = '{"init_kwargs": {"resolution": 1073741824}, "metadata": {}}'
    save_file({"a": torch.zeros(1)}, tmp_path / "huge.safetensors", metadata={GENERATOR_FORMAT: huge})
    for name in ("text", "other", "huge"):
        with pytest.raises(UserError, match=f"{name}.safetensors"):
            load_generator(tmp_path / f"{name}.safetensors")
    generator = Trainer(config, CPU).generator
    with torch.no_grad():
        generator.mapping.w_avg[0] = float("nan")
    save_generator(tmp_path / "nan.safetensors", generator, {**METADATA, "images_seen": 0})
    with pytest.raises(UserError, match="1 weights hold NaN or infinity, the first is mapping.w_avg"):
        load_generator(tmp_path / "nan.safetensors")
    generator = Trainer(config, CPU).generator
    generator.init_kwargs["channel_max"] = 4
    save_generator(tmp_path / "wrong.safetensors", generator, {**METADATA, "images_seen": 0})
    with pytest.raises(UserError, match="of another shape"):
        load_generator(tmp_path / "wrong.safetensors")


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("evil-was-here"),))


def test_states_that_are_none_are_refused_and_run_nothing(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "arcbifacegan-state-1", "x": Evil()}, "evil.pt")
    Path("text.pt").write_text("hello")
    torch.save({"weights": torch.zeros(1)}, "other.pt")
    for name in ("evil.pt", "text.pt", "other.pt", "absent.pt"):
        with pytest.raises(UserError, match=f"--resume: {name}"):
            load_state(name)
    assert not Path("evil-was-here").exists()
    trainer = Trainer(config, CPU)
    save_state("good.pt", trainer.state())
    state = load_state("good.pt")
    del state["generator"]["mapping.fc0.weight"]
    with pytest.raises(UserError, match=r"good\.pt: generator: .*1 missing: mapping\.fc0\.weight"):
        Trainer(config, CPU).load(state, "--resume: good.pt")
