"""Features to figures in bounded memory, however many features there are: how well people can be told apart, and how
much of real people a synthetic set gives away.

100,000 features have five thousand million scores. They are counted (metrics/score_counts.py), and of real people only
the nearest to each sample is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.identity import Curve, Leakage, eer_of, fnmr_at_fmrs, leakage, unit_rows
from metrics.score_counts import ScoreCounts, count_scores, curve_of, fdr_of
from torch_utils.search import Gallery, nearest


class Separability(NamedTuple):
    """How well a recognition model tells people apart.

    mated, nonmated: the counted scores, with their means and deviations. curve: both error rates at every threshold,
    for `metrics.identity.det`. eer: the equal error rate. fnmr: FNMR by the text of the FMR; None where the non-mated
    scores are too few for it. fdr, d_prime: Fisher's ratio and the sensitivity index.
    """

    mated: ScoreCounts
    nonmated: ScoreCounts
    curve: Curve
    eer: float
    fnmr: dict[str, float | None]
    fdr: float
    d_prime: float


def separability(features: ArrayLike, labels: Sequence[object] | NDArray) -> Separability:
    """Of features [N, D] of N pictures and the identity of each: all pairs of them.

    Memory: the features in float64 and about 100 MB, whatever N. Raises ValueError where there are no two pictures of
    one person, or no two people, and as `count_scores` does.
    """
    mated, nonmated = count_scores(features, labels)
    curve, ratio = curve_of(mated, nonmated), fdr_of(mated, nonmated)
    return Separability(
        mated,
        nonmated,
        curve,
        eer=eer_of(curve),
        fnmr=fnmr_at_fmrs(curve, nonmated.total),
        fdr=ratio,
        d_prime=float(np.sqrt(2 * ratio)),
    )


def leakage_of(synthetic: ArrayLike, real: ArrayLike, threshold: float) -> Leakage:
    """`metrics.identity.leakage` of features [N, D] and [M, D], each sample against every real feature.

    The similarity is exact for the features as float32. Memory: both sets in float32, and a tile. Raises ValueError for
    a feature that has no direction, and where there is none.
    """
    samples, gallery = (unit_rows(rows).astype(np.float32) for rows in (synthetic, real))
    if not len(gallery):
        raise ValueError("there is no real feature")
    similarity, _ = nearest(samples, Gallery.of(gallery))
    return leakage(similarity, threshold)
