"""Kernel distance between two sets of features: the squared maximum mean discrepancy under a cubic kernel (Binkowski et
al. 2018). On Inception features it is KID; on a recognition model's it is called `kd_arcface`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics.registry import Result, Setting, register
from metrics.rows import Seen
from torch_utils.streams import stream

SUBSETS, SUBSET_SIZE = 100, 1000

Features = NDArray[np.floating]


def squared_mmd(real: Features, fake: Features) -> float:
    """Unbiased estimate from features [N, D] and [M, D], N and M at least 2, in float64; it may be below zero.

    The kernel is k(x, y) = (x.y / D + 1)^3. Each set's own mean leaves out the comparisons of a feature with itself
    (Gretton et al. 2012, equation 3).
    """
    ours, theirs = np.asarray(real, dtype=np.float64), np.asarray(fake, dtype=np.float64)
    if min(len(ours), len(theirs)) < 2:
        raise ValueError(f"{len(ours)} real and {len(theirs)} drawn features; two of each are the least")
    return _own_mean(ours) + _own_mean(theirs) - 2 * float(_kernel(ours, theirs).mean())


def _kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _own_mean(features: NDArray[np.float64]) -> float:
    values, number = _kernel(features, features), len(features)
    return float((values.sum() - np.trace(values)) / (number * (number - 1)))


def kernel_distance(real: Features, fake: Features, seed: int) -> tuple[float, float | None]:
    """(mean, sd) of `squared_mmd` over SUBSETS pairs of subsets of at most SUBSET_SIZE features, drawn by the seed
    without replacement; the sd is that of one subset's estimate. Where a subset is all that there is, one estimate is
    taken, and no sd is known."""
    size = min(len(real), len(fake), SUBSET_SIZE)
    if size == max(len(real), len(fake)):
        return squared_mmd(real, fake), None
    estimates = []
    for number in range(SUBSETS):
        rng = stream(seed, "kernel-distance", number)
        ours, theirs = rng.permutation(len(real))[:size], rng.permutation(len(fake))[:size]
        estimates.append(squared_mmd(real[ours], fake[theirs]))
    return float(np.mean(estimates)), float(np.std(estimates))


def _between(kind: str, real: Seen, fake: Seen, seed: int) -> list[Result]:
    ours, theirs = real.by_spectrum(kind), fake.by_spectrum(kind)
    found = {spectrum: kernel_distance(ours[spectrum], theirs[spectrum], seed) for spectrum in theirs}
    return [Result(spectrum, mean, sd=sd) for spectrum, (mean, sd) in found.items()]


@register("kid{N}", "kid{N}_full", needs=("inception",), higher_is_better=False)
def kid(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """Kernel Inception distance of the drawn pictures to the real ones."""
    return _between("inception", real, fake, setting.seed)


@register("kd_arcface{N}", needs=("arcface",), higher_is_better=False)
def kd_arcface(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """The same on a recognition model's features, whose lengths are brought to the square root of their dimension, as
    Inception's nearly are: the kernel's cube would else be ruled by them."""
    return _between("arcface", _levelled(real), _levelled(fake), setting.seed)


def _levelled(seen: Seen) -> Seen:
    """Rows whose root mean square is one."""
    rows = {
        name: values / np.sqrt(np.square(values, dtype=np.float64).mean(axis=1, keepdims=True)).clip(min=1e-12)
        for name, values in seen.rows["arcface"].items()
    }
    return Seen(seen.number, rows={"arcface": rows})
