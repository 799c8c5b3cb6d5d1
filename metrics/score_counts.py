"""Distributions of scores in bounded memory: exact counts on a fine grid, however many scores there are.

100,000 pictures have five thousand million pairs, which no array holds. A score is rounded down to a multiple of
`STEP`, about a millionth, and counted; a threshold that is asked for is rounded down too, so that a score is never
taken to lie under itself. Nothing is sampled: every rate is that of all scores so rounded, every threshold is wrong by
at most one step, and number, mean, variance and extremes are those of the scores themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.identity import Curve, OperatingPoint, Scores, unit_rows

BINS = 1 << 21
STEP = 2 / BINS  # a power of two, so that the grid's points are exact


class ScoreCounts:
    """The scores of one kind, each in [-1, 1], as counts at the multiples of STEP from -1 to 1."""

    def __init__(self, scores: ArrayLike = ()) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS + 1, dtype=np.int64)
        self.total = 0
        self.lowest, self.highest = np.inf, -np.inf
        self._sum = self._squares = 0.0
        self.add(scores)

    def add(self, scores: ArrayLike) -> None:
        """Counts these too, of any shape; what rounding has brought over 1 or under -1 is taken to be that."""
        values: Scores = np.asarray(scores, dtype=np.float64).ravel()
        if not len(values):
            return
        values = np.clip(values, -1, 1)
        self.counts += np.bincount(_bin(values), minlength=BINS + 1)
        self.total += len(values)
        self._sum += float(values.sum())
        self._squares += float(values @ values)
        self.lowest, self.highest = min(self.lowest, float(values.min())), max(self.highest, float(values.max()))

    @property
    def mean(self) -> float:
        """Of all scores. Raises ValueError where there is none, as all figures here do."""
        if not self.total:
            raise ValueError("there is no score")
        return self._sum / self.total

    @property
    def var(self) -> float:
        """Population variance."""
        mean = self.mean
        return 0.0 if self.lowest == self.highest else max(0.0, self._squares / self.total - mean**2)

    @property
    def sd(self) -> float:
        return float(np.sqrt(self.var))

    def below(self, threshold: float) -> int:
        """How many scores lie under `threshold`."""
        place = 0 if threshold < -1 else BINS + 1 if threshold > 1 else int(_bin(np.asarray([threshold]))[0])
        return int(self.counts[:place].sum())

    def occupied(self) -> tuple[Scores, NDArray[np.int64]]:
        """The middles of all bins that hold a score, ascending, and how many: what a histogram is drawn of."""
        where = np.flatnonzero(self.counts)
        return np.minimum(where * STEP - 1 + STEP / 2, 1.0), self.counts[where]


def _bin(values: Scores) -> NDArray[np.int64]:
    return ((values + 1) * (1 / STEP)).astype(np.int64)


# ----------------------------------------------------------------------------
# Features to counts.


def count_scores(
    features: ArrayLike, labels: Sequence[object] | NDArray, rows_at_once: int = 1024, columns_at_once: int = 2048
) -> tuple[ScoreCounts, ScoreCounts]:
    """Cosine of every unordered pair of features, counted as (mated, nonmated): `metrics.identity.mated_nonmated` in
    bounded memory.

    features: [N, D], any lengths but zero. labels: N identities, compared for equality.
    Raises ValueError if the counts differ or a feature has no direction.
    """
    rows = unit_rows(features)  # [N, D]
    if len(labels) != len(rows):
        raise ValueError(f"{len(rows)} features but {len(labels)} labels")
    codes = np.unique(np.asarray([str(label) for label in labels]), return_inverse=True)[1]  # [N]
    order = np.argsort(codes, kind="stable")
    rows, codes = rows[order], codes[order]  # people one after another: pairs of one person lie near the diagonal
    mated, nonmated = ScoreCounts(), ScoreCounts()
    for start in range(0, len(rows), rows_at_once):
        part = rows[start : start + rows_at_once]  # [B, D]
        own = codes[start : start + rows_at_once, None]  # [B, 1]
        beyond = int(np.searchsorted(codes, own[-1, 0], side="right"))  # from here on all are strangers
        for left in range(start, beyond, columns_at_once):
            right = min(left + columns_at_once, beyond)
            scores = part @ rows[left:right].T  # [B, C]
            upper = np.arange(left, right)[None] > np.arange(start, start + len(part))[:, None]
            same = own == codes[None, left:right]
            mated.add(scores[upper & same])
            nonmated.add(scores[upper & ~same])
        for left in range(beyond, len(rows), columns_at_once):
            nonmated.add(part @ rows[left : left + columns_at_once].T)
    return mated, nonmated


# ----------------------------------------------------------------------------
# Counts to rates.


def curve_of(mated: ScoreCounts, nonmated: ScoreCounts) -> Curve:
    """`metrics.identity.roc` of the counted scores: for `eer_of` and `point_at_fmr`."""
    where = np.flatnonzero(mated.counts + nonmated.counts)
    if not mated.total or not nonmated.total:
        raise ValueError("there is no score")
    under = [np.append(0, np.cumsum(scores.counts[where])) for scores in (mated, nonmated)]  # [T], the last is +inf
    fmr, fnmr = (nonmated.total - under[1]) / nonmated.total, under[0] / mated.total
    return Curve(np.append(where * STEP - 1, np.inf), fmr, fnmr)


def rates_at(mated: ScoreCounts, nonmated: ScoreCounts, threshold: float) -> OperatingPoint:
    """Both error rates at one threshold."""
    if not mated.total or not nonmated.total:
        raise ValueError("there is no score")
    matches = nonmated.total - nonmated.below(threshold)
    return OperatingPoint(float(threshold), matches / nonmated.total, mated.below(threshold) / mated.total)


def fdr_of(mated: ScoreCounts, nonmated: ScoreCounts) -> float:
    """`metrics.identity.fdr` of the counted scores; d' is the square root of twice that."""
    distance, spread = (mated.mean - nonmated.mean) ** 2, mated.var + nonmated.var
    if spread == 0:
        return 0.0 if distance == 0 else float("inf")
    return distance / spread
