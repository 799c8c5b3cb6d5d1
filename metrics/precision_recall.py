"""Improved precision and recall (Kynkaanniemi et al. 2019): how many drawn pictures lie among the real ones, and how
many real ones among the drawn, each set's manifold being balls around its features that reach the third neighbour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from metrics.registry import Result, Setting, register
from metrics.rows import Seen

NEIGHBOURS = 3
BLOCK = 1024  # rows of a block of distances

Features = NDArray[np.floating]


class PrecisionRecall(NamedTuple):
    """precision: share of the drawn pictures within the real manifold. recall: share of the real ones within the
    drawn."""

    precision: float
    recall: float


PARTS, LEAST = PrecisionRecall._fields, NEIGHBOURS + 1


def precision_recall(
    *, real: Features, fake: Features, neighbours: int = NEIGHBOURS, device: torch.device | str = "cpu"
) -> PrecisionRecall:
    """Of features [N, D] and [M, D]; real and fake are named, for taken the wrong way round they swap the figures
    (PAIN_POINTS row 8).

    Exact: distances to all others, in blocks of float64 on the device. A feature on a ball's edge lies within it.
    Raises ValueError for a set that has not more than `neighbours` features.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise ValueError(f"{len(real)} real and {len(fake)} drawn features; more than {neighbours} of each are needed")
    ours, theirs = (torch.from_numpy(np.asarray(rows, dtype=np.float64)).to(device) for rows in (real, fake))
    return PrecisionRecall(
        precision=_share_within(theirs, ours, neighbours), recall=_share_within(ours, theirs, neighbours)
    )


def _share_within(probes: torch.Tensor, manifold: torch.Tensor, neighbours: int) -> float:
    """Share of probes [M, D] that lie in the ball of some feature of the manifold [N, D]."""
    reach = [_squared(part, manifold, own=first).kthvalue(neighbours, dim=1) for first, part in _blocks(manifold)]
    radii = torch.cat([found.values for found in reach])  # [N], to the neighbours-th other feature
    within = sum(int((_squared(part, manifold) <= radii).any(dim=1).sum()) for _, part in _blocks(probes))
    return within / len(probes)


def _blocks(rows: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    return [(first, rows[first : first + BLOCK]) for first in range(0, len(rows), BLOCK)]


def _squared(rows: torch.Tensor, others: torch.Tensor, own: int | None = None) -> torch.Tensor:
    """Squared distances [B, N]. own: the rows are the others' from there on, and are not their own neighbours."""
    squared = torch.addmm(others.square().sum(dim=1), rows, others.T, alpha=-2)
    squared += rows.square().sum(dim=1, keepdim=True)
    if own is not None:
        index = torch.arange(len(rows), device=rows.device)
        squared[index, index + own] = torch.inf
    return squared


def _between(kind: str, real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    ours, theirs = real.by_spectrum(kind), fake.by_spectrum(kind)
    results = []
    for spectrum in theirs:
        found = precision_recall(real=ours[spectrum], fake=theirs[spectrum], device=setting.device)
        results += [Result(spectrum, value, part) for part, value in found._asdict().items()]
    return results


@register(
    "pr{N}", "pr{N}_full", "pr{K}3", "pr{K}3_full",
    needs=("vgg16",), higher_is_better=True, parts=PARTS, least=LEAST,
)  # fmt: skip
def pr(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """Precision and recall on VGG16's features, as the paper and StyleGAN2-ADA take them."""
    return _between("vgg16", real, fake, setting)


@register("pr_arcface{N}", needs=("arcface",), higher_is_better=True, parts=PARTS, least=LEAST)
def pr_arcface(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """The same on a recognition model's features."""
    return _between("arcface", real, fake, setting)
