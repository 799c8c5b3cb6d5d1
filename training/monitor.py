"""Watches training for a collapse to one picture for each condition (PAIN_POINTS row 12).

The measure of difference is the root mean square over pixels and channels of two pictures in [-1, 1]: 0 for the same
picture twice, 2 for black against white.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from torch_utils.image_tree import split_name
from torch_utils.images import from_uint8
from torch_utils.spectra import SPECTRA
from torch_utils.streams import stream
from training.dataset import PairedFaces
from training.generator import Generator

CONDITIONS, LATENTS = 4, 4  # 16 pictures a tick: nothing beside the thousands that a tick trains on
REAL_PEOPLE, REAL_PICTURES = 16, 4  # a look at the real variation, once at the start

# A generator whose pictures of one condition differ by less than this share of what real pictures of one person do
# has collapsed. Generators of example faces lie at 0.4 to 0.55 after 5 kimg and later, untrained ones of all presets
# above 1, one that ignores its latent at 0.
COLLAPSE_SHARE = 0.1


class Diversity(NamedTuple):
    """Mean difference of two pictures of one group, and of two groups. NaN where there are no two such pictures."""

    within: float
    across: float


def diversity(pictures: torch.Tensor, groups: Sequence[int]) -> Diversity:
    """pictures float [N, C, H, W], clamped to [-1, 1]; groups: N labels."""
    rows = pictures.clamp(-1, 1).flatten(1)  # [N, C * H * W]
    # Not by matrix products: they leave rounding where the same picture twice must give 0.
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(rows.shape[1])
    labels = torch.as_tensor(groups, device=rows.device)
    same = labels[:, None] == labels[None, :]  # [N, N]
    upper = torch.ones_like(same).triu(diagonal=1)
    return Diversity(float(distances[upper & same].mean()), float(distances[upper & ~same].mean()))


def real_diversity(dataset: PairedFaces, seed: int) -> dict[str, Diversity]:
    """Within and across people, by spectrum, of a few pictures drawn by the seed."""
    people = _people(dataset, seed, REAL_PEOPLE, REAL_PICTURES)
    groups = [number for number, indices in enumerate(people) for _ in indices]
    pairs = [dataset[index][0] for indices in people for index in indices]
    return {
        spectrum: diversity(from_uint8(torch.stack([pair[spectrum] for pair in pairs])), groups) for spectrum in SPECTRA
    }


def _people(dataset: PairedFaces, seed: int, people: int, pictures: int) -> list[list[int]]:
    """Indices of at most `pictures` pictures of each of at most `people`, those with several pictures first."""
    members: dict[str, list[int]] = {}
    for index, name in enumerate(dataset.names):
        members.setdefault(split_name(name)[0], []).append(index)
    rng = stream(seed, "monitor-people")
    order = sorted(rng.permutation(sorted(members)).tolist(), key=lambda person: len(members[person]) < 2)
    return [rng.permutation(members[person])[:pictures].tolist() for person in order[:people]]


class DiversityWatch:
    """Draws a few pictures of a few fixed conditions each tick and tells how different they are.

    Latents and conditions come of streams of their own: training's random numbers stay as they are.
    """

    def __init__(self, dataset: PairedFaces, z_dim: int, seed: int, device: torch.device) -> None:
        chosen = [indices[0] for indices in _people(dataset, seed, CONDITIONS, 1)]
        self.groups = np.repeat(np.arange(len(chosen)), LATENTS).tolist()
        latents = stream(seed, "monitor-latents").standard_normal([len(self.groups), z_dim], dtype=np.float32)
        self.z = torch.from_numpy(latents).to(device)  # [M * K, z_dim]
        self.c = torch.stack([dataset.feature(chosen[group]) for group in self.groups]).to(device)  # [M * K, c_dim]
        self.real = real_diversity(dataset, seed)

    @torch.no_grad()
    def look(self, generator: Generator) -> dict[str, Diversity]:
        """What the generator draws at the fixed conditions, by spectrum."""
        parts = [generator(z, c) for z, c in zip(self.z.split(LATENTS), self.c.split(LATENTS), strict=True)]
        return {name: diversity(torch.cat([part[name] for part in parts]), self.groups) for name in parts[0]}

    def warnings(self, seen: dict[str, Diversity]) -> list[str]:
        """A line for each spectrum that has collapsed.

        The yardstick is the real pictures' variation within a person; where no person has two pictures, the drawn
        pictures' variation across conditions.
        """
        lines = []
        for name, drawn in seen.items():
            real = self.real[name].within
            yardstick, whose = (real, "real pictures of one person") if real > 0 else (drawn.across, "other conditions")
            if drawn.within <= COLLAPSE_SHARE * yardstick:
                lines.append(
                    f"collapse in {name}: pictures of one condition differ by {drawn.within:.4f}, those of "
                    f"{whose} by {yardstick:.4f}; the generator ignores its latent"
                )
        return lines


def scalars(seen: dict[str, Diversity]) -> dict[str, float]:
    """For stats.jsonl: diversity/vis within a condition, diversity/across_vis across conditions, and so on."""
    within = {f"diversity/{name}": drawn.within for name, drawn in seen.items()}
    across = {f"diversity/across_{name}": drawn.across for name, drawn in seen.items()}
    return {name: value for name, value in {**within, **across}.items() if math.isfinite(value)}
