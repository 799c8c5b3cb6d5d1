"""What the processes of test_recognition_distributed.py do: steps of a network without batch norm."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from arcface import recognition_trainer
from arcface.choices import AugmentConfig
from arcface.recognition_config import RecognitionConfig, batch_indices
from arcface.recognition_data import read_batches
from arcface.recognition_trainer import NotFinite, RecognitionTrainer
from tests.arcface.people import people
from torch_utils import distributed
from torch_utils.stop_signals import StopSignals

CONFIG = RecognitionConfig(
    steps=4, batch=8, head="adaface", spectra="vis+nir", lr=0.1, augment=AugmentConfig(crop=0.5, erase=0.5, noise=0.1)
)


def plain_network(arch: str, size: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 512))


def steps(folder: Path, stop: StopSignals) -> None:
    """Four steps of this process's share; each process keeps its weights and what it measured."""
    torch.set_num_threads(1)
    rank, world, found = distributed.rank(), distributed.world_size(), people()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recognition_trainer, "build_backbone", plain_network)
        trainer = RecognitionTrainer(CONFIG, found.classes, torch.device("cpu"))
    whole = [batch_indices(CONFIG, len(found), step) for step in range(CONFIG.steps)]
    mine = [indices[rank::world] for indices in whole]
    measured = [
        trainer.step(images, torch.from_numpy(found.labels[indices]))
        for images, indices in zip(read_batches(found, 32, mine, show_progress=False), mine, strict=True)
    ]
    if rank == world - 1:  # one process's gradient breaks: all stop
        with torch.no_grad():
            trainer.head.weight.fill_(float("nan"))  # type: ignore[operator]
    with pytest.raises(NotFinite):
        trainer.step(torch.zeros(8 // world, 3, 32, 32, dtype=torch.uint8), torch.from_numpy(np.arange(8 // world) % 4))
    torch.save((trainer.state(), measured), folder / f"{world}-{rank}.pt")
