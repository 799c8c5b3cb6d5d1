"""Frechet distance between two sets of features taken as normal distributions (Heusel et al. 2017; Dowson and Landau
1982). On Inception features it is FID; on a recognition model's it is never called that, but `fd_arcface`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics.feature_stats import FeatureStats
from metrics.registry import Result, Setting, register
from metrics.rows import Seen

FEWEST_PICTURES = 2048  # the distance of fewer pictures is known to be biased (PAIN_POINTS row 9)


def frechet_distance(first: FeatureStats, second: FeatureStats) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), of means and unbiased covariances, in float64.

    The trace of the root is the sum of the singular values of R1^T R2 with C = R R^T; the factors R come of symmetric
    eigendecompositions. Nothing is squared after them, so a small eigenvalue keeps its digits, and covariances of
    fewer samples than dimensions are as good as others.

    Raises ValueError for fewer than two features, or features of two dimensions.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"features of {len(first.mean)} numbers against features of {len(second.mean)}")
    ours, theirs = first.covariance, second.covariance  # [D, D] each
    shared = np.linalg.svd(_factor(ours).T @ _factor(theirs), compute_uv=False).sum()
    distance = np.square(first.mean - second.mean).sum() + np.trace(ours) + np.trace(theirs) - 2 * shared
    return max(float(distance), 0.0)


def _factor(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """R [D, D] with R R^T = covariance; eigenvalues that rounding made negative are zero."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(values.clip(min=0))


def _between(kind: str, real: Seen, fake: Seen) -> list[Result]:
    """By spectrum."""
    ours, theirs = real.stats[kind], fake.stats[kind]
    return [Result(spectrum, frechet_distance(ours[spectrum], theirs[spectrum])) for spectrum in theirs]


@register(
    "fid{N}", "fid{N}_full", needs=("inception",), statistics=True, higher_is_better=False, fewest=FEWEST_PICTURES
)
def fid(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """Frechet Inception distance of the drawn pictures to all real ones (Heusel et al. 2017)."""
    return _between("inception", real, fake)


@register("fd_arcface{N}", needs=("arcface",), statistics=True, higher_is_better=False, fewest=FEWEST_PICTURES)
def fd_arcface(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """The same on a recognition model's features."""
    return _between("arcface", real, fake)
