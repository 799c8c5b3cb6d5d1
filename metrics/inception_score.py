"""Inception score (Salimans et al. 2016): whether pictures are each of one class, and together of many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics.registry import Result, Setting, register
from metrics.rows import Seen

SPLITS = 10


def inception_score(probabilities: NDArray, splits: int = SPLITS) -> tuple[float, float]:
    """(mean, sd) over `splits` parts of exp(mean KL(p(y|x) || p(y))), from class probabilities [N, K], in order.

    Raises ValueError for fewer pictures than parts.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if len(values) < splits:
        raise ValueError(f"{len(values)} pictures cannot be cut into {splits} parts")
    scores = []
    for part in np.array_split(values, splits):
        share, whole = part.clip(min=1e-300), part.mean(axis=0).clip(min=1e-300)
        scores.append(np.exp((part * (np.log(share) - np.log(whole))).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


@register("is{N}", needs=("inception",), real=False, higher_is_better=True, least=SPLITS)
def score(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """Of the drawn pictures, by spectrum; the network knows ImageNet's classes, not faces."""
    found = {name: inception_score(rows) for name, rows in fake.by_spectrum("inception", "probabilities").items()}
    return [Result(name, mean, sd=sd) for name, (mean, sd) in found.items()]
