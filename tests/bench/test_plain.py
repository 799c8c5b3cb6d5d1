"""The plain formulation that the benchmark compares with computes what ours computes: pictures and all gradients."""

from typing import Any

import torch

from bench import plain
from bench.training import build, drawing, gradient_difference, gradients
from torch_utils.spectra import SPECTRA
from training.config import DatasetFacts
from training.trainer import Trainer


def pair() -> tuple[Trainer, Trainer]:
    small: dict[str, Any] = {"cfg": "tiny32", "batch": 4, "fmaps": 1 / 64}
    ours, other = (build(DatasetFacts(32, 100, 512), **small) for _ in range(2))
    plain.make_plain(other)
    return ours, other


def test_plain_equals_ours() -> None:
    ours, other = pair()
    with torch.no_grad():
        for network in (ours.generator, other.generator):
            for name, parameter in network.named_parameters():
                if name.endswith("noise_strength"):
                    parameter.fill_(0.3)
    pictures = [drawing(trainer)() for trainer in (ours, other)]
    for name in SPECTRA:
        assert torch.allclose(pictures[0][name], pictures[1][name], atol=1e-5)
    mine = gradients(ours)
    assert set(mine) == {"generator_main", "generator_reg", "discriminator_main", "discriminator_reg"}
    assert all(sum(float(gradient.abs().sum()) for gradient in found) > 0 for found in mine.values())
    assert gradient_difference(mine, gradients(other)) < 1e-4
