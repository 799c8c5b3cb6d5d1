"""Where synthetic people come from: the identity feature of a slot, drawn from a stream of the slot's own.

A *slot* is a place in the endless list of people that a run may try. The feature of slot i depends on the run's
settings and on i alone, so slots can be drawn in any order and on any number of processes. `--identities` is one of

    random      the paper's unit vectors times a norm
    spread      points that are pushed apart, within the real features' distribution (generation.spread)
    real-like   a Gaussian of the real features after PCA, which keeps the conditions where the generator was trained
    FILE        the user's own features; slot i is row i, and there are no more slots than rows

Another one is a class with the same calls and a line in `build_sampler`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import UserError
from dnnlib.files import StrPath, require_file
from generation.choices import KINDS
from generation.spread import Cache, SpreadIdentities
from torch_utils.feature_file import UNKNOWN_MODEL, FeatureSet, check_values, load_features
from torch_utils.streams import stream

FEATURE_SIZE = 512
PAPER_NORM = 4.0  # ArcBiFaceGAN: unit vectors times 4
EXPLAINED_VARIANCE = 0.99  # of the real features, by the components that real-like keeps


class IdentitySampler(Protocol):
    """Slots in, identity features out: float32 [N, D], a row a slot, the same row for a slot in any company.

    slots: how many there are; None: as many as one likes. prepare: does ahead what several slots have in common.
    """

    slots: int | None

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]: ...
    def prepare(self, slots: Sequence[int]) -> None: ...


class RandomIdentities:
    """Directions evenly over the sphere, all of one length (the paper's way)."""

    slots: int | None = None

    def __init__(self, seed: int, norm: float = PAPER_NORM, size: int = FEATURE_SIZE) -> None:
        self.seed, self.norm, self.size = seed, norm, size

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]:
        rows = [stream(self.seed, "identity", slot).standard_normal(self.size) for slot in slots]
        return _rescale(np.asarray(rows).reshape(len(rows), self.size), self.norm)  # [N, D]

    def prepare(self, slots: Sequence[int]) -> None:
        """Nothing is in common."""


class RealLikeIdentities:
    """A Gaussian with the mean and the leading covariance of real features, rescaled to one length.

    Only first and second moments of all real people together go in, so no feature is copied; that none comes too close
    to a real person is the filter's work all the same.
    """

    slots: int | None = None

    def __init__(self, seed: int, real_features: NDArray, norm: float) -> None:
        """real_features: [M, D] raw. Raises ValueError with fewer than two."""
        self.seed, self.norm = seed, norm
        self.mean, self.axes = principal_axes(real_features)

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]:
        size, kept = self.axes.shape
        rows = [self.mean + self.axes @ stream(self.seed, "identity", slot).standard_normal(kept) for slot in slots]
        return _rescale(np.asarray(rows).reshape(len(rows), size), self.norm)  # [N, D]

    def prepare(self, slots: Sequence[int]) -> None:
        """Nothing is in common."""


class GivenIdentities:
    """The user's own features, rescaled to one length; slot i is row i."""

    def __init__(self, features: NDArray, norm: float) -> None:
        """features: [N, D]."""
        self.features = _rescale(np.asarray(features, dtype=np.float64), norm)
        self.slots: int | None = len(features)

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]:
        """Slots past the end, which fill up the last chunk and can never be chosen, are the last one again."""
        return self.features[np.minimum(np.asarray(slots, dtype=np.int64), len(self.features) - 1)]

    def prepare(self, slots: Sequence[int]) -> None:
        """All is there."""


def build_sampler(
    kind: str,
    seed: int,
    norm: float,
    real_features: NDArray | None = None,
    size: int = FEATURE_SIZE,
    given: NDArray | None = None,
    cache: Cache | None = None,
) -> IdentitySampler:
    """The sampler of `--identities kind`.

    norm: L2 norm of every feature drawn: the mean norm of the features that the generator was trained on.
    real_features: raw features [M, D], for `real-like` and, where there are any, for `spread`. given: features of a
    file [N, D], where `kind` is none of KINDS. cache: for `spread`. Raises ValueError for missing features.
    """
    if given is not None:
        return GivenIdentities(given, norm)
    if kind == "random":
        return RandomIdentities(seed, norm, size)
    if kind == "spread":
        mean, axes = (np.zeros(size), np.eye(size)) if real_features is None else principal_axes(real_features)
        return SpreadIdentities(seed, norm, mean, axes, cache=cache)
    if kind == "real-like":
        if real_features is None:
            raise ValueError("real-like identities need real features")
        return RealLikeIdentities(seed, real_features, norm)
    raise ValueError(f"identities must be one of {', '.join(KINDS)} or a file, not {kind!r}")


def principal_axes(features: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D], and the leading principal axes [D, K] times the standard deviation along each, of features [M, D].

    Raises ValueError with fewer than two.
    """
    rows = np.asarray(features, dtype=np.float64)  # [M, D]
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError("identities like the real ones need at least two real features")
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))  # ascending: [D], [D, D]
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    share = np.cumsum(values) / max(values.sum(), np.finfo(np.float64).tiny)
    kept = min(int(np.searchsorted(share, EXPLAINED_VARIANCE)) + 1, len(rows) - 1)
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])  # eigh leaves them open
    return rows.mean(axis=0), (vectors * signs)[:, :kept] * np.sqrt(values[:kept])


def _rescale(rows: NDArray[np.float64], norm: float) -> NDArray[np.float32]:
    """Rows [N, D] to one length."""
    return (rows * (norm / np.linalg.norm(rows, axis=1, keepdims=True))).astype(np.float32)


# ----------------------------------------------------------------------------
# The user's own.


def load_given(path: StrPath, size: int, conditioned_on: str, option: str = "--identities") -> FeatureSet:
    """Features of the user's people from a file: .safetensors of dataset_tool.py features, ArcBiFaceGAN's .json, or an
    array [N, size] in a .npy.

    conditioned_on: fingerprint of the recognition model whose features the generator knows. Raises UserError, naming
    `option` and the file, for what is not features, not of that size or not of that model, and for rows that are zero,
    constant or not finite.
    """
    where = f"{option}: {path}"
    require_file(path, where, f"{', '.join(KINDS)} or a file of features is needed")
    found = _load_array(path, where) if Path(path).suffix == ".npy" else load_features(path, option)
    if found.features.shape[1] != size:
        raise UserError(f"{where}: features of {found.features.shape[1]} numbers; the generator knows those of {size}")
    if UNKNOWN_MODEL not in (found.model, conditioned_on) and found.model != conditioned_on:
        raise UserError(
            f"{where}: features of recognition model {found.model}, but the generator is conditioned on those of "
            f"{conditioned_on}; make them with that model"
        )
    constant = np.flatnonzero(np.ptp(found.features, axis=1) == 0)
    if len(constant):
        raise UserError(f"{where}: all numbers of {found.names[constant[0]]} are equal; that is nobody's feature")
    return found


def _load_array(path: StrPath, where: str) -> FeatureSet:
    """A .npy, mapped first: its header cannot ask for more memory than the file is long, and it runs nothing."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray) or mapped.ndim != 2 or mapped.dtype.kind != "f":
            raise ValueError("an array of floating-point numbers [N, C] is needed")
        values = np.array(mapped, dtype=np.float32)
    except Exception as error:  # numpy parses the header as Python's, and lets through whatever that raises
        raise UserError(f"{where}: not an array of features ({error})") from error
    names = [f"row_{row}" for row in range(len(values))]
    check_values(values, names, where)
    return FeatureSet(values, names, UNKNOWN_MODEL)
