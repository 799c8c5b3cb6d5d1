"""Whether those whom a generator has learned from can be told from those whom it has not: a membership test.

Each person has one score, the more alike to the synthetic set, the higher. If what was learned does not show, members
and outsiders have scores of one distribution, and the area under the ROC curve, the probability that a member drawn at
random has a higher score than an outsider, is one half.

The interval is DeLong's (DeLong, DeLong & Clarke-Pearson 1988): the area is a mean over all pairs of a member and an
outsider, and its variance is that of the members' shares of outsiders below them over their number, plus that of the
outsiders' shares of members above them over theirs. Ties count one half throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

CONFIDENCE = 0.95


class Area(NamedTuple):
    """The area under the ROC curve and its confidence interval."""

    auc: float
    low: float
    high: float


def membership(*, members: ArrayLike, outsiders: ArrayLike, confidence: float = CONFIDENCE) -> Area:
    """How well scores tell members from outsiders: 0.5 not at all, 1 always, below 0.5 the other way round.

    members [M], outsiders [N]: a score a person, people who were drawn independently. Where all members have higher
    scores than all outsiders (or lower), DeLong's variance is zero and would claim certainty; the interval is then the
    exact binomial one (Clopper & Pearson 1934) of min(M, N) disjoint pairs that all agree.

    Raises ValueError for fewer than two scores of a kind, and for scores that are not finite.
    """
    inside, outside = _scores(members, "member"), _scores(outsiders, "outsider")
    below = _share_below(inside, outside)  # [M] of the outsiders, each member's; their mean is the area
    above = 1 - _share_below(outside, inside)  # [N] of the members, each outsider's
    auc = float(below.mean())
    variance = below.var(ddof=1) / len(inside) + above.var(ddof=1) / len(outside)
    reach = float(norm.ppf((1 + confidence) / 2)) * float(np.sqrt(variance))
    low, high = max(0.0, auc - reach), min(1.0, auc + reach)
    certain = ((1 - confidence) / 2) ** (1 / min(len(inside), len(outside)))
    if auc == 1:
        low, high = certain, 1.0
    if auc == 0:
        low, high = 0.0, 1 - certain
    return Area(auc, low, high)


def _share_below(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each score the share of `others`, ascending, that lie below it; an equal one counts half."""
    left, right = (np.searchsorted(others, scores, side=side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(others)))


def _scores(values: ArrayLike, kind: str) -> NDArray[np.float64]:
    scores = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if len(scores) < 2:
        raise ValueError(f"at least two {kind} scores are needed, not {len(scores)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"a {kind} score is not finite")
    return scores
