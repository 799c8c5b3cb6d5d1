"""metrics.identity and the counted scores against pyeer 0.5.6, on random scores. Of pyeer only eer_stats is used, where
all its figures come from: eer_info, which calls it, wants pkg_resources, which setuptools has no more.

pyeer too lets a score match that is at least the threshold, and its thresholds are the distinct scores. It differs in
three places, each pinned here:

1. Its thresholds end at the highest score, ours at +inf, where nothing matches.
2. Its FMR1000 is the point whose FMR is nearest to 1/1000, be it above; ours, as ISO/IEC 19795-1 has it, is the lowest
   threshold with an FMR of at most that. So where pyeer's lies above, ours is the next threshold with another FMR.
3. Of scores that are all equal, of each kind, it says a decidability of 1; ours is infinite, or 0 for equal ones.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyeer.eer_stats import calculate_roc, get_decidability_value, get_eer_values, get_fmr_op

from metrics import identity
from metrics.score_counts import ScoreCounts, curve_of, fdr_of

LIMITS = (0.1, 0.05, 0.01, 0.001, 1e-4, 0.0)  # pyeer's FMR10 to FMR1000, FMR10000, ZeroFMR


def scores(seed: int, mated: int, nonmated: int, apart: float, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Clipped normal scores; with few digits many are equal."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(apart, 0.15, mated), rng.normal(0, 0.12, nonmated)
    return tuple(np.round(np.clip(values, -1, 1), digits) for values in drawn)  # type: ignore[return-value]


some_scores = st.builds(
    scores,
    seed=st.integers(0, 10**6),
    mated=st.integers(2, 300),
    nonmated=st.integers(2, 500),
    apart=st.sampled_from([-0.1, 0.0, 0.1, 0.3, 0.6]),
    digits=st.sampled_from([1, 2, 9]),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(some_scores)
def test_curves_and_equal_error_rates_are_pyeer_s(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    thresholds, fmr, fnmr = calculate_roc(*drawn)
    ours = identity.roc(*drawn)
    assert np.array_equal(ours.thresholds[:-1], thresholds)
    assert np.array_equal(ours.fmr[:-1], fmr) and np.array_equal(ours.fnmr[:-1], fnmr)
    assert (ours.thresholds[-1], ours.fmr[-1], ours.fnmr[-1]) == (math.inf, 0, 1)
    if (fmr <= fnmr).any():  # else the curves meet only where nothing matches, which pyeer does not look at
        assert identity.eer(*drawn) == pytest.approx(get_eer_values(fmr, fnmr)[3], abs=1e-15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(some_scores, st.sampled_from(LIMITS))
def test_operating_points_are_pyeer_s_or_the_next(drawn: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    thresholds, fmr, fnmr = calculate_roc(*drawn)
    index, theirs = get_fmr_op(fmr, fnmr, limit)
    ours = identity.fnmr_at_fmr(*drawn, limit)
    if fmr[index] <= limit:
        assert ours == (thresholds[index], fmr[index], theirs)
    else:
        following = np.append(thresholds, np.inf)[np.append(fmr, 0) < fmr[index]][0]
        assert ours.threshold == following and ours.fmr <= limit and ours.fnmr >= theirs


@pytest.mark.parametrize("seed", range(4))
def test_all_figures_of_many_scores_are_pyeer_s(seed: int) -> None:
    """20,000 non-mated scores without ties: each operating point is reached exactly."""
    mated, nonmated = scores(seed, 3000, 20_000, apart=0.5, digits=15)
    thresholds, fmr, fnmr = calculate_roc(mated, nonmated)
    for limit in LIMITS:
        index, rate = get_fmr_op(fmr, fnmr, limit)
        assert identity.fnmr_at_fmr(mated, nonmated, limit) == (thresholds[index], limit, rate)
    rate = get_eer_values(fmr, fnmr)[3]
    decidability = get_decidability_value(mated.mean(), mated.std(), nonmated.mean(), nonmated.std())
    assert identity.eer(mated, nonmated) == pytest.approx(rate, abs=1e-15)
    assert identity.d_prime(mated, nonmated) == pytest.approx(decidability, rel=1e-12)
    assert identity.fdr(mated, nonmated) == pytest.approx(decidability**2 / 2, rel=1e-12)
    counted = ScoreCounts(mated), ScoreCounts(nonmated)
    assert identity.eer_of(curve_of(*counted)) == pytest.approx(rate, abs=1 / 3000)
    assert math.sqrt(2 * fdr_of(*counted)) == pytest.approx(decidability, rel=1e-9)


def test_constant_scores_by_hand() -> None:
    assert get_decidability_value(0.5, 0, 0.2, 0) == 1
    assert identity.d_prime([0.5, 0.5], [0.2, 0.2]) == math.inf and identity.d_prime([0.5], [0.5]) == 0
