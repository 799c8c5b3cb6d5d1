"""Means and deviations of what training reports, over a tick and over all processes."""

import math
from typing import NamedTuple

import torch

from torch_utils import distributed


class Moments(NamedTuple):
    """Number of values, mean and standard deviation of what was reported under one name."""

    number: int
    mean: float
    sd: float


class Stats:
    """Gathers scalars by name. `report` costs no synchronisation with the device; `collect` does, once a tick."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}

    def report(self, name: str, values: torch.Tensor | float) -> None:
        """Adds the elements of `values`, any shape, under `name`."""
        tensor = torch.as_tensor(values).detach().to(torch.float64).flatten()
        sums = torch.stack([tensor.new_full([], len(tensor)), tensor.sum(), tensor.square().sum()])
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def collect(self) -> dict[str, Moments]:
        """The moments of all that was reported since the last call, summed over all processes.

        Every process must have reported under the same names.
        """
        names = sorted(self._sums)
        if not names:
            return {}
        sums = torch.stack([self._sums[name].cpu() for name in names])  # plain numbers were reported from there
        table = distributed.all_reduce_sum(sums).tolist()
        self._sums.clear()
        return {name: _moments(*row) for name, row in zip(names, table, strict=True)}


def _moments(count: float, total: float, squares: float) -> Moments:
    mean = total / count
    return Moments(int(count), mean, math.sqrt(max(squares / count - mean * mean, 0.0)))
