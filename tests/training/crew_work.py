"""What the processes of test_distributed.py do: gradients of every phase, and training that is stopped and goes on."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from torch_utils import distributed
from torch_utils.stop_signals import StopSignals
from training import loss
from training.adversarial import Images, path_lengths
from training.config import TrainingConfig
from training.dataset import PairedFaces
from training.phases import Phase, lazy_adam
from training.snapshots import load_state
from training.trainer import Trainer
from training.training_loop import train

CPU = torch.device("cpu")
METADATA = {"recognition_model": "test-model", "feature_norm": 2.5}
BATCH = 12
STOP_AT = {2: 3, 3: 6}  # iterations by the number of processes, between two of ADA's updates; the end is at 8


@dataclass(frozen=True)
class Task:
    """bare: a configuration without anything that is drawn, for gradients. config: a common one."""

    folder: Path
    bare: TrainingConfig
    config: TrainingConfig
    dataset: PairedFaces
    state: Path | None


# ----------------------------------------------------------------------------
# Gradients.


def share(rank: int, world: int) -> torch.Tensor:
    """This process's part of a batch, so that the first halves of all parts are the first half of the batch.

    Path length looks at the first half of a process's part.
    """
    half = BATCH // 2
    part = torch.arange(half // world * rank, half // world * (rank + 1))
    return torch.cat([part, part + half])


@contextlib.contextmanager
def noise_by_picture(indices: torch.Tensor) -> Iterator[None]:
    """Path length's noise comes from a table, by the picture's place in the whole batch."""
    original = path_lengths

    def by_table(images: Images, ws: torch.Tensor, noise: Images) -> torch.Tensor:
        del noise
        rng = torch.Generator().manual_seed(2)
        tables = {name: torch.randn([BATCH, *image.shape[1:]], generator=rng) for name, image in images.items()}
        return original(images, ws, {name: table[indices[: len(ws)]] for name, table in tables.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "path_lengths", by_table)
        yield


def gradients(config: TrainingConfig, rank: int, world: int) -> dict[str, list[torch.Tensor | None]]:
    """Phase -> gradients of its parameters, for this process's share of a batch that is always the same."""
    rng = torch.Generator().manual_seed(1)
    reals = {
        "vis": torch.randn([BATCH, 3, 16, 16], generator=rng),
        "nir": torch.randn([BATCH, 1, 16, 16], generator=rng),
    }
    real_c, z, c = (torch.randn([BATCH, 8], generator=rng) for _ in range(3))
    mine = share(rank, world)
    real_part = ({name: images[mine] for name, images in reals.items()}, real_c[mine])
    arguments = {"reals": real_part, "latents": (z[mine], c[mine]), "both": (*real_part, z[mine], c[mine])}
    trainer = Trainer(config, CPU)
    synthesis = trainer.generator.synthesis
    forward = synthesis.forward
    synthesis.forward = lambda ws, **_: forward(ws, noise_mode="const")  # type: ignore[method-assign]
    found = {}
    with noise_by_picture(mine):
        for phase in trainer.phases:
            assert phase.run([arguments[phase.needs]])
            found[phase.name] = [parameter.grad for parameter in phase.parameters]
    return found


# ----------------------------------------------------------------------------
# Training.


def trained(task: Task, folder: str, state: Path | None, stop_at: int = 0) -> Trainer:
    """A trainer that has gone on from `state` to the end, or to the iteration `stop_at`."""
    trainer = Trainer(task.config, CPU)
    if state is not None:
        loaded = load_state(state)
        trainer.load(loaded, "--resume")
        sums = trainer.state()["ada_sums"]
        assert all(torch.equal(sums[name], loaded["ada_sums"][name]) for name in sums), "ADA's sums are whole again"
    train(trainer, task.dataset, task.folder / folder, METADATA, stop=lambda: trainer.iteration == stop_at)
    return trainer


def skips_alike(rank: int) -> bool:
    """Whether a step is skipped, and nothing moves, though the gradients of process 1 alone are not finite."""
    layer = torch.nn.Linear(1, 1)
    before = layer.weight.detach().clone()

    def backward(factor: float, weight: float) -> None:
        (layer(torch.ones(1, 1)).sum() * factor * weight).backward()

    phase = Phase("test", [layer], lazy_adam(layer.parameters(), 0.1, 0), backward, "latents")
    return not phase.run([(float("nan") if rank == 1 else 1.0,)]) and torch.equal(layer.weight, before)


def work(task: Task, stop: StopSignals) -> None:
    """Gradients; training from task.state, once with a stop amidst and once without; each process keeps its results."""
    rank, world = distributed.rank(), distributed.world_size()
    torch.set_num_threads(1)
    assert skips_alike(rank)
    torch.save(gradients(task.bare, rank, world), task.folder / f"gradients-{rank}.pt")
    trained(task, "part", task.state, STOP_AT[world])
    again = trained(task, "rest", task.folder / "part/training-state-000000.pt")
    whole = trained(task, "whole", task.state)
    whole.stats.report("rank", float(rank))
    moments = tuple(whole.stats.collect()["rank"])
    torch.save({"again": again.state(), "whole": whole.state(), "moments": moments}, task.folder / f"end-{rank}.pt")
