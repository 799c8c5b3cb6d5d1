"""Identity features that are pushed apart: `--identities spread`, after the idea of HyperFace.

Points on the hypersphere that are to be many people should be far from one another, but stay where the generator was
trained. A point is x = mean + axes z, with the mean and the leading covariance of the real features (without those:
mean 0, axes 1), and its feature is x at a given length. A group of G slots starts with z drawn as a Gaussian, like
real-like's or random's, and takes gradient steps against

    sum over i of  log sum over j of exp(SHARPNESS cos(x_i, x_j)) / SHARPNESS,

a soft maximum of each point's cosines to the other points of its group and to the nearest points of all earlier
groups, which stay as they are. Two things bind the points to the real features' distribution: each z keeps the length
that it was drawn with, so in the directions that real people vary in it is as far from their mean, in standard
deviations, as a real person would be, and a group keeps the mean z = 0.

The slots are endless: a group is computed when one of its slots is first asked for, and depends on the seed, its number
and the groups before it, never on who else was asked for. It is computed in one thread, so that any number of threads
and processes has the same bits. Cost, on one core of a server at 512 numbers: 2.5 s a group and 0.15 s for each group
before it, so 10,000 slots take half a minute and 100,000 a quarter of an hour; memory, the features twice and 100 MB.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torch_utils.search import full_float32
from torch_utils.streams import stream

GROUP = 1024  # slots that are spread together; another number gives other features
STEPS, FIRST_ANGLE = 40, 0.15  # a step turns each z by an angle in radians that falls to 0
SHARPNESS = 40.0  # of the soft maximum: what is 1/40 less like weighs e times less
EARLIER, REFRESH = 32, 10  # points of earlier groups that a point is pushed from, found anew every so many steps
BLOCK = 4096  # earlier points that are looked through at a time
TINY = 1e-12


class Cache(Protocol):
    """Keeps finished groups, each float32 [G, D]; gives None for what is not there (generation.parts)."""

    def load_group(self, index: int) -> NDArray[np.float32] | None: ...
    def save_group(self, index: int, features: NDArray[np.float32]) -> None: ...


class SpreadIdentities:
    """The sampler (generation.identity_sampling.IdentitySampler). `groups`: those that are finished, in order."""

    slots: int | None = None  # endless

    def __init__(
        self,
        seed: int,
        norm: float,
        mean: NDArray[np.float64],
        axes: NDArray[np.float64],
        group: int = GROUP,
        cache: Cache | None = None,
    ) -> None:
        """mean: [D]. axes: [D, K], each column a direction times the standard deviation along it. cache: where groups
        are looked for before they are computed, and kept."""
        self.seed, self.norm, self.group, self.cache = seed, norm, group, cache
        self.mean = torch.from_numpy(np.asarray(mean, dtype=np.float32))
        self.axes = torch.from_numpy(np.ascontiguousarray(axes, dtype=np.float32))
        self.groups: list[NDArray[np.float32]] = []

    def __call__(self, slots: Sequence[int]) -> NDArray[np.float32]:
        self.prepare(slots)
        rows = [self.groups[slot // self.group][slot % self.group] for slot in slots]
        return np.asarray(rows, dtype=np.float32).reshape(len(rows), len(self.mean))

    def prepare(self, slots: Sequence[int]) -> None:
        """Compute, or load, all groups up to the last that these slots need."""
        for index in range(len(self.groups), max(slots, default=-1) // self.group + 1):
            features = None if self.cache is None else self.cache.load_group(index)
            if features is None or features.shape != (self.group, len(self.mean)):
                features = self._spread(index)
                if self.cache is not None:
                    self.cache.save_group(index, features)
            self.groups.append(features)

    # ------------------------------------------------------------------------
    # One group.

    def start(self, group: int) -> Tensor:
        """The z [G, K] that a group begins with, each from its slot's own stream."""
        slots = range(group * self.group, (group + 1) * self.group)
        rows = [stream(self.seed, "identity", slot).standard_normal(self.axes.shape[1]) for slot in slots]
        return torch.from_numpy(np.asarray(rows, dtype=np.float32))

    def _spread(self, group: int) -> NDArray[np.float32]:
        """The features [G, D] of a group, all earlier ones being there."""
        with one_thread(), full_float32(), torch.no_grad():
            z = self.start(group)
            radius = z.norm(dim=1, keepdim=True)  # [G, 1]
            nobody = np.empty((0, len(self.mean)), dtype=np.float32)
            earlier = torch.from_numpy(np.concatenate([nobody, *self.groups[:group]])).div_(self.norm)  # [E, D]
            near = earlier.new_empty([len(z), 0, len(self.mean)])
            for step in range(STEPS):
                points, lengths = self._points(z)
                if len(earlier) and step % REFRESH == 0:
                    near = _nearest(points, earlier)  # [G, L, D]
                slope = _slope(points, near)  # [G, D]
                slope = (slope - (slope * points).sum(1, keepdim=True) * points) / lengths  # of x
                slope = slope @ self.axes  # [G, K], of z
                slope = slope - (slope * z).sum(1, keepdim=True) / radius.square().clamp(min=TINY) * z
                angle = FIRST_ANGLE * (1 - step / STEPS)
                z = z - angle * radius * slope / slope.norm(dim=1, keepdim=True).clamp(min=TINY)
                z = z - z.mean(dim=0)
                z = z * (radius / z.norm(dim=1, keepdim=True).clamp(min=TINY))
            return (self._points(z)[0] * self.norm).numpy()

    def _points(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """x at length one [G, D], and the lengths of x [G, 1]."""
        x = self.mean + z @ self.axes.T
        lengths = x.norm(dim=1, keepdim=True).clamp(min=TINY)
        return x / lengths, lengths


def _nearest(points: Tensor, earlier: Tensor) -> Tensor:
    """The EARLIER rows of `earlier` [E, D] that are most like each of `points` [G, D]: [G, L, D]."""
    best, place = points.new_empty([len(points), 0]), torch.empty([len(points), 0], dtype=torch.int64)
    for first in range(0, len(earlier), BLOCK):
        others = earlier[first : first + BLOCK]
        scores = torch.cat([best, points @ others.T], dim=1)
        places = torch.cat([place, torch.arange(first, first + len(others)).expand(len(points), -1)], dim=1)
        best, chosen = scores.topk(min(EARLIER, scores.shape[1]), dim=1)
        place = places.gather(1, chosen)
    return earlier[place]


def _slope(points: Tensor, near: Tensor) -> Tensor:
    """Derivative of the summed soft maxima with respect to points [G, D]; near [G, L, D] are pushed from, and stay."""
    among = (points @ points.T).fill_diagonal_(-torch.inf)  # [G, G]
    others = torch.einsum("gd,gld->gl", points, near)  # [G, L]
    weights = torch.softmax(SHARPNESS * torch.cat([among, others], dim=1), dim=1)
    own, fixed = weights.split([len(points), near.shape[1]], dim=1)
    return (own + own.T) @ points + torch.einsum("gl,gld->gd", fixed, near)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block torch computes in this thread alone: sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
