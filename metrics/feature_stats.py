"""Mean and covariance of features in float64, picture by picture, and summed over processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from torch_utils import distributed


@dataclass
class FeatureStats:
    """Statistics of N features of D numbers.

    number: N. mean [D]. scatter [D, D]: the sum of the outer products of what lies off the mean. Kept about the mean,
    not about zero, so nothing cancels where the mean is large (Chan, Golub and LeVeque 1983).
    """

    number: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def empty(cls, dim: int) -> FeatureStats:
        """Statistics of no feature yet."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    @classmethod
    def of(cls, features: ArrayLike) -> FeatureStats:
        """Statistics of features [N, D]."""
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2:
            raise ValueError(f"features must be [N, D], not {list(rows.shape)}")
        if not len(rows):
            return cls.empty(rows.shape[1])
        mean = rows.mean(axis=0)  # [D]
        off = rows - mean  # [N, D]
        return cls(len(rows), mean, off.T @ off)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased, [D, D]. Raises ValueError for fewer than two features."""
        if self.number < 2:
            raise ValueError(f"{self.number} features have no covariance; two are the least")
        return self.scatter / (self.number - 1)

    def append(self, features: ArrayLike) -> None:
        """Takes in features [N, D]."""
        self.merge(FeatureStats.of(features))

    def merge(self, other: FeatureStats) -> None:
        """Takes in what another has seen."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"features of {len(other.mean)} numbers cannot join features of {len(self.mean)}")
        number = self.number + other.number
        if not other.number:
            return
        apart = other.mean - self.mean  # [D]
        self.scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.number * other.number / number)
        self.mean = self.mean + apart * (other.number / number)
        self.number = number

    def summed(self) -> FeatureStats:
        """The statistics of what all processes have seen, the same in each."""
        if distributed.world_size() == 1:
            return self
        sums = _summed(np.append(self.mean * self.number, float(self.number)))  # [D + 1]
        number = int(sums[-1])
        mean = sums[:-1] / max(number, 1)  # [D]
        off = self.mean - mean
        return FeatureStats(number, mean, _summed(self.scatter + np.outer(off, off) * self.number))


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return distributed.all_reduce_sum(torch.from_numpy(values)).numpy()
