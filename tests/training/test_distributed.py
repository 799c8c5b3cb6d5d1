"""Two and three processes on the CPU: the same gradients as one, the same weights in all, states that fit any number.

Started twice only, because each start of a process takes seconds.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import crew_work
from tests.training.test_training_loop import same, without_time
from torch_utils.launch import World, launch
from training.config import DatasetFacts, TrainingConfig, TrainingOptions, build_training_config
from training.dataset import PairedFaces
from training.snapshots import load_state
from training.trainer import Trainer
from training.training_loop import train

pytestmark = pytest.mark.slow


def configuration(processes: int) -> TrainingConfig:
    """A quick one, with every phase, ADA and style mixing; 8 iterations."""
    options = TrainingOptions(
        cfg="tiny32", gpus=processes, batch=12, kimg=0.096, tick=0.096, snap=1, workers=0, fmaps=1 / 256
    )
    built = build_training_config(options, DatasetFacts(16, 12, 8))
    return dataclasses.replace(built, ada_kimg=0.1, generator={**built.generator, "z_dim": 8, "w_dim": 8})


def without_chance(config: TrainingConfig) -> TrainingConfig:
    discriminators = {name: {**kwargs, "mbstd_group": 1} for name, kwargs in config.discriminators.items()}
    return dataclasses.replace(
        config, discriminators=discriminators, augment=(), ada_target=None, style_mixing=0.0, learning_rate=0.0
    )


def crew(folder: Path, processes: int, dataset: PairedFaces, state: Path | None) -> list[dict[str, Any]]:
    """What each of that many processes has left."""
    for name in ("part", "rest", "whole"):
        (folder / name).mkdir(parents=True)
    config = configuration(processes)
    task = crew_work.Task(folder, without_chance(config), config, dataset, state)
    launch(World(processes, "cpu"), lambda: task, crew_work.work)
    return [
        {"gradients": torch.load(folder / f"gradients-{rank}.pt"), **torch.load(folder / f"end-{rank}.pt")}
        for rank in range(processes)
    ]


@pytest.fixture(scope="module")
def two(dataset: PairedFaces, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("crew") / "two"
    return folder, crew(folder, 2, dataset, None)


@pytest.fixture(scope="module")
def three(
    two: tuple[Path, list[dict[str, Any]]], dataset: PairedFaces, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """Three that go on with what two have saved amidst their training."""
    folder = tmp_path_factory.mktemp("crew") / "three"
    return folder, crew(folder, 3, dataset, two[0] / "part/training-state-000000.pt")


@pytest.mark.parametrize("number", ["two", "three"])
def test_gradients_of_every_phase_equal_those_of_one_process(number: str, request: pytest.FixtureRequest) -> None:
    alone = crew_work.gradients(without_chance(configuration(1)), 0, 1)
    assert list(alone) == ["generator_main", "generator_reg", "discriminator_main", "discriminator_reg"]
    for member in request.getfixturevalue(number)[1]:
        for phase, expected in alone.items():
            found = member["gradients"][phase]
            assert [g is None for g in found] == [g is None for g in expected]
            pairs = [(f, e) for f, e in zip(found, expected, strict=True) if e is not None]
            scale = max(float(e.abs().max()) for _, e in pairs)
            assert scale > 0 and all(torch.allclose(f, e, rtol=1e-3, atol=1e-5 * scale) for f, e in pairs), phase


@pytest.mark.parametrize("number", ["two", "three"])
def test_all_processes_end_alike_interrupted_or_not(number: str, request: pytest.FixtureRequest) -> None:
    members = request.getfixturevalue(number)[1]
    assert members[0]["whole"]["counters"]["iteration"] == 8
    for member in members:
        assert same(without_time(member["whole"]), without_time(members[0]["whole"]))
        assert same(without_time(member["again"]), without_time(members[0]["whole"]))
        count, mean, _ = member["moments"]
        assert (count, mean) == (len(members), (len(members) - 1) / 2)


def test_another_number_of_processes_goes_on(
    three: tuple[Path, list[dict[str, Any]]], dataset: PairedFaces, tmp_path: Path
) -> None:
    """Two, then three, then one: the pictures shown and the settings stay, and it is said what does not."""
    state = load_state(three[0] / "part/training-state-000000.pt")
    trainer = Trainer(configuration(1), torch.device("cpu"))
    trainer.load(state, "--resume")
    assert trainer.iteration == crew_work.STOP_AT[3] and trainer.images_seen == 12 * trainer.iteration
    assert same(trainer.state()["generator"], state["generator"])
    note = trainer.change_of_processes()
    assert note is not None and note.startswith("The state is of 3 processes, now there are 1: ")
    assert train(trainer, dataset, tmp_path, crew_work.METADATA)
    assert trainer.images_seen == 96
