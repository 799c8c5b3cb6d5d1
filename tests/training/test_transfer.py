"""A run that begins with other weights: from each kind of file, with layers frozen, and what does not fit by name."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import train as script
from dnnlib.errors import UserError
from tests.training import released
from training.config import TrainingConfig
from training.snapshots import load_generator, load_state, save_generator, save_state
from training.trainer import Trainer
from training.transfer import check_weights, read_weights, transfer

CPU = torch.device("cpu")
# The configuration of conftest.py: 16x16, z 8, c 8, w 8, channel_base 128, channel_max 128, two mapping layers.
WIDTHS = (32, 16, 8)
METADATA = {"recognition_model": "test-model", "feature_norm": 2.5, "images_seen": 0}


def generator(**changes: Any) -> released.Node:
    return released.generator(**{"resolution": 16, "z": 8, "c": 8, "w": 8, "widths": WIDTHS, "layers": 2, **changes})


def weights_of(node: released.Node) -> dict[str, torch.Tensor]:
    """By our names."""
    names = {"torgb": "heads.vis", "toseg": "heads.nir"}
    return {re.sub("torgb|toseg", lambda found: names[found[0]], name): value for name, value in node.tensors()}


def begun(config: TrainingConfig, path: Path) -> tuple[Trainer, list[str]]:
    config = dataclasses.replace(config, init_from=str(path))
    weights = read_weights(path)
    check_weights(weights, config)
    trainer = Trainer(config, CPU)
    return trainer, transfer(weights, trainer)


def holds(module: torch.nn.Module, expected: dict[str, torch.Tensor]) -> bool:
    state = module.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[name], value) for name, value in expected.items())


def test_a_released_pickle_brings_every_network(config: TrainingConfig, tmp_path: Path) -> None:
    nodes: dict[str, Any] = {
        "G": generator(seed=1),
        "G_ema": generator(seed=2),
        "D": released.discriminator(3, c=8, widths=WIDTHS),
        "D_NIR": released.discriminator(1, c=0, widths=WIDTHS),
    }
    trainer, lines = begun(config, released.save(tmp_path / "x.pkl", **nodes))
    assert holds(trainer.generator, weights_of(nodes["G"])) and holds(trainer.ema.averaged, weights_of(nodes["G_ema"]))
    assert holds(trainer.discriminators["vis"], weights_of(nodes["D"]))
    assert holds(trainer.discriminators["nir"], weights_of(nodes["D_NIR"]))
    assert (trainer.images_seen, trainer.iteration) == (0, 0) and not trainer.optimizers["generator"].state
    assert lines == [f"Beginning with the weights of {tmp_path / 'x.pkl'}"]


def test_stylegan2_ada_brings_luminance_and_one_discriminator(config: TrainingConfig, tmp_path: Path) -> None:
    node = generator(heads={"torgb": 3})
    judge = released.discriminator(3, c=8, widths=WIDTHS)
    trainer, lines = begun(config, released.save(tmp_path / "x.pkl", G_ema=node, D=judge))
    fresh = Trainer(config, CPU)
    head = trainer.generator.state_dict()["synthesis.b8.heads.nir.bias"]
    red, green, blue = weights_of(node)["synthesis.b8.heads.vis.bias"].tolist()
    assert head.item() == pytest.approx(0.299 * red + 0.587 * green + 0.114 * blue, rel=1e-5)
    assert holds(trainer.discriminators["nir"], fresh.discriminators["nir"].state_dict())
    assert sum("luminance" in line for line in lines) == 1
    assert lines[-1] == "The file has no NIR discriminator, which begins anew"


def test_states_and_snapshots_of_ours(config: TrainingConfig, tmp_path: Path) -> None:
    before = Trainer(dataclasses.replace(config, seed=9), CPU)
    before.images_seen, before.iteration = 1000, 77
    with torch.no_grad():
        before.ema.averaged.mapping.w_avg += 1
    save_state(tmp_path / "state.pt", before.state())
    save_generator(tmp_path / "snapshot.safetensors", before.ema.averaged, METADATA)
    trainer, lines = begun(config, tmp_path / "state.pt")
    assert holds(trainer.generator, before.generator.state_dict()) and len(lines) == 1
    assert holds(trainer.ema.averaged, before.ema.averaged.state_dict())
    assert all(holds(trainer.discriminators[name], net.state_dict()) for name, net in before.discriminators.items())
    assert trainer.iteration == 0
    trainer, lines = begun(config, tmp_path / "snapshot.safetensors")
    assert holds(trainer.generator, before.ema.averaged.state_dict())
    assert lines[1:] == [f"The file has no {name} discriminator, which begins anew" for name in ("VIS", "NIR")]


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (
            {"G": generator(resolution=32, widths=(32, 16, 8, 4))},
            "the generator's resolution is 32 .* and 16 in this run",
        ),
        ({"G": generator(z=16)}, "the generator's z_dim is 16 in the file, and 8 in this run"),
        ({"G": generator(c=0)}, "c_dim is 0 in the file, and 8 in this run; --cond and --features decide it"),
        (
            {"G": generator(widths=(16, 8, 4))},
            "channel_base is 64 in the file, and 128 in this run; --fmaps decides it",
        ),
        ({"G": generator(widths=(16, 16, 8))}, "channel_max is 16 in the file, and 32"),
        ({"G": generator(layers=8)}, "mapping_layers is 8 in the file, and 2 in this run; --cfg decides it"),
        (
            {"G": generator(), "D": released.discriminator(3, c=0, widths=WIDTHS)},
            "the VIS discriminator's c_dim is 0 in the file, and 8",
        ),
        (
            {"G": generator(), "D_NIR": released.discriminator(3, c=0, widths=WIDTHS)},
            "the NIR discriminator's image_channels is 3 in the file, and 1",
        ),
        ({"D": released.discriminator()}, "holds D, but no generator"),
    ],
)
def test_what_does_not_fit_is_named(networks: dict, words: str, config: TrainingConfig, tmp_path: Path) -> None:
    path = released.save(tmp_path / "x.pkl", **networks)
    with pytest.raises(UserError, match=rf"^--init-from: .*x\.pkl: .*{words}"):
        begun(config, path)


def test_files_of_other_kinds_are_refused(config: TrainingConfig, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    state = Trainer(config, CPU).state()
    save_state(tmp_path / "broken.pt", {**state, "generator": {"a": "b"}})
    (tmp_path / "text.pkl").write_text("hello")
    for name in ("other.pt", "broken.pt", "text.pkl", "nowhere.pkl"):
        with pytest.raises(UserError, match=f"^--init-from: .*{name}: "):
            read_weights(tmp_path / name)
    released.save(tmp_path / "x.pkl", G=generator())
    with pytest.raises(UserError, match=r"^--resume: .*x\.pkl: .*--init-from"):
        load_state(tmp_path / "x.pkl")


# ----------------------------------------------------------------------------
# Frozen layers.


def test_frozen_layers_keep_their_weights(config: TrainingConfig) -> None:
    """Five of each: fromrgb, conv0, conv1, skip at 16x16, conv0 at 8x8."""
    trainer = Trainer(dataclasses.replace(config, freeze_layers=5), CPU)
    frozen = {
        *(f"b16.{layer}.{kind}" for layer in ("fromrgb", "conv0", "conv1") for kind in ("weight", "bias")),
        *("b16.skip.weight", "b8.conv0.weight", "b8.conv0.bias"),
    }
    before = {name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in trainer.discriminators.items()}
    images = {"vis": torch.randint(0, 256, (4, 3, 16, 16)), "nir": torch.randint(0, 256, (4, 1, 16, 16))}
    batch: Any = ({name: values.byte() for name, values in images.items()}, torch.randn(4, 8))
    for _ in range(2):
        trainer.step(batch, torch.randn(4, 8))
    for name, net in trainer.discriminators.items():
        kept = {key for key, value in net.named_parameters() if torch.equal(value, before[name][key])}
        assert kept & {key for key in kept if key.startswith("b")} == frozen
        assert all(value.grad is None for key, value in net.named_parameters() if key in frozen)
    other = Trainer(config, CPU)  # the state fits a run with nothing frozen
    other.load(trainer.state(), "--resume")


# ----------------------------------------------------------------------------
# The command.


def run(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        script.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


@pytest.fixture
def line(data: Path, tmp_path: Path) -> list[Any]:
    small = ["--cfg", "tiny32", "--fmaps", 1 / 256, "--batch", 4, "--kimg", 0.008, "--tick", 0.004, "--workers", 0]
    return ["--data", data, "--outdir", tmp_path / "runs", "--snap", 1, *small, "--device", "cpu"]


def test_every_option_of_stylegan2_ada_is_there() -> None:
    known = {name for parameter in script.main.params for name in parameter.opts}
    named = "outdir gpus snap metrics seed dry-run data cond subset mirror cfg gamma kimg batch aug p target augpipe"
    more = "resume freezed fp32 nhwc allow-tf32 nobench workers"
    assert {"-n", *(f"--{name}" for name in f"{named} {more}".split())} <= known


def test_train_begins_with_a_released_pickle(line: list[Any], tmp_path: Path, capsys: Any) -> None:
    sizes: dict[str, Any] = {"z": 512, "w": 512}
    path = released.save(
        tmp_path / "x.pkl",
        G=generator(**sizes),
        G_ema=generator(**sizes, seed=2),
        D=released.discriminator(3, c=8, widths=WIDTHS),
    )
    status, _, err = run([*line, "--init-from", path, "--freezed", 4, "--resume", "latest"], capsys)
    assert status == 0, err
    assert f"Beginning with the weights of {path}" in err and "no NIR discriminator" in err
    (run_dir,) = (tmp_path / "runs").iterdir()
    settings = json.loads((run_dir / "config.json").read_text())
    assert (settings["ada_kimg"], settings["ema_rampup"], settings["freeze_layers"]) == (100, None, 4)
    trained = load_generator(run_dir / "network-snapshot-000000.safetensors")
    first = weights_of(generator(**sizes, seed=2))["synthesis.b4.const"]
    assert 0 < (trained.state_dict()["synthesis.b4.const"] - first).abs().max() < 0.1
    # The same command goes on from the state.
    status, _, err = run([*line, "--init-from", path, "--freezed", 4, "--resume", "latest"], capsys)
    assert status == 0 and "Nothing to do" in err, err
    status, _, err = run([*line, "--init-from", path, "--resume", "latest", "--kimg", 0.012], capsys)
    assert status == 0 and f"--init-from: {path} is not read" in err, err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--init-from", "nowhere.pkl"], "--init-from: nowhere.pkl: no such file"),
        (["--freezed", 2], "--freezed: only goes with --init-from or --resume"),
        (["--freezed", 2, "--resume", "latest"], "--freezed: .* holds no training state to go on from"),
        (["--fp32", "true", "--precision", "bf16"], "--fp32: contradicts --precision bf16"),
        (["--precision", "fp8"], "--precision"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_made(
    more: list[Any], words: str, line: list[Any], tmp_path: Path, capsys: Any
) -> None:
    status, out, err = run([*line, *more], capsys)
    assert status == 2 and out == "" and re.search(words, err.strip().splitlines()[-1]), err
    assert not (tmp_path / "runs").exists()
