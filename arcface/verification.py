"""Verification: are two pictures of one person? Pairs of pictures -> cosine scores, with the flip test.

The flip test sums the features of a picture and of its mirror image before the cosine, as the standard benchmarks
do (FACTS.md, "Identity metrics"). What the scores are worth (EER, FNMR at an FMR) is metrics/identity.py's business.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from arcface.embed import Picture, embed
from arcface.weights import RecognitionModel


def pair_scores(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of row i of `first` with row i of `second`: [P, C], [P, C] -> float64 [P].

    Raises:
        ValueError: shapes that differ, or a row of zeros or NaN, which has no direction.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"both sides must be [P, C], not {a.shape} and {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)  # [P]
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError(f"feature {int(np.argmin(np.isfinite(lengths) & (lengths > 0)))} has no direction")
    return np.clip((a * b).sum(axis=1) / lengths, -1, 1)


def verify_pairs(
    model: RecognitionModel,
    first: torch.Tensor | Iterable[Picture],
    second: torch.Tensor | Iterable[Picture],
    flip: bool = True,
    batch_size: int = 64,
    show_progress: bool = False,
) -> np.ndarray:
    """Scores of pairs of pictures; pictures as `embed` takes them. Returns float64 [P], higher is more alike."""
    sides = (embed(model, side, batch_size, flip=flip, show_progress=show_progress) for side in (first, second))
    return pair_scores(*sides)
