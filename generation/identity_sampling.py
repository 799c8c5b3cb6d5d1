"""Where synthetic people come from: the identity feature of a slot, drawn from a stream of the slot's own.

A *slot* is a place in the endless list of people that a run may try. The feature of slot i depends on the run's seed
and on i alone, so slots can be drawn in any order and on any number of processes. Two distributions are here: `random`,
the paper's unit vectors times a norm, and `real-like`, a Gaussian of the real features after PCA, which keeps the
conditions where the generator was trained. Another one is a class with the same call and a line in `build_sampler`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from torch_utils.streams import stream

FEATURE_SIZE = 512
PAPER_NORM = 4.0  # ArcBiFaceGAN: unit vectors times 4
KINDS = ("random", "real-like")
EXPLAINED_VARIANCE = 0.99  # of the real features, by the components that real-like keeps


class IdentitySampler(Protocol):
    """Slots in, identity features out: float32 [N, D], a row a slot, the same row for a slot in any company."""

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]: ...


class RandomIdentities:
    """Directions evenly over the sphere, all of one length (the paper's way)."""

    def __init__(self, seed: int, norm: float = PAPER_NORM, size: int = FEATURE_SIZE) -> None:
        self.seed, self.norm, self.size = seed, norm, size

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]:
        rows = [stream(self.seed, "identity", slot).standard_normal(self.size) for slot in slots]
        return _rescale(np.asarray(rows).reshape(len(rows), self.size), self.norm)  # [N, D]


class RealLikeIdentities:
    """A Gaussian with the mean and the leading covariance of real features, rescaled to one length.

    Only first and second moments of all real people together go in, so no feature is copied; that none comes too close
    to a real person is the filter's work all the same.
    """

    def __init__(self, seed: int, real_features: NDArray, norm: float) -> None:
        """real_features: [M, D] raw. Raises ValueError with fewer than two."""
        rows = np.asarray(real_features, dtype=np.float64)  # [M, D]
        if rows.ndim != 2 or len(rows) < 2:
            raise ValueError("real-like identities need at least two real features")
        self.seed, self.norm = seed, norm
        self.mean = rows.mean(axis=0)  # [D]
        values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))  # ascending: [D], [D, D]
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        share = np.cumsum(values) / max(values.sum(), np.finfo(np.float64).tiny)
        kept = min(int(np.searchsorted(share, EXPLAINED_VARIANCE)) + 1, len(rows) - 1)
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])  # eigh leaves them open
        self.axes = (vectors * signs)[:, :kept] * np.sqrt(values[:kept])  # [D, K]

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]:
        size, kept = self.axes.shape
        rows = [self.mean + self.axes @ stream(self.seed, "identity", slot).standard_normal(kept) for slot in slots]
        return _rescale(np.asarray(rows).reshape(len(rows), size), self.norm)  # [N, D]


def build_sampler(
    kind: str, seed: int, norm: float, real_features: NDArray | None = None, size: int = FEATURE_SIZE
) -> IdentitySampler:
    """The sampler of `--identities kind`.

    norm: L2 norm of every feature drawn: the mean norm of the features that the generator was trained on.
    real_features: raw features [M, D], for `real-like`. Raises ValueError for another kind or missing features.
    """
    if kind == "random":
        return RandomIdentities(seed, norm, size)
    if kind == "real-like":
        if real_features is None:
            raise ValueError("real-like identities need real features")
        return RealLikeIdentities(seed, real_features, norm)
    raise ValueError(f"identities must be one of {', '.join(KINDS)}, not {kind!r}")


def _rescale(rows: NDArray[np.float64], norm: float) -> NDArray[np.float32]:
    """Rows [N, D] to one length."""
    return (rows * (norm / np.linalg.norm(rows, axis=1, keepdims=True))).astype(np.float32)
