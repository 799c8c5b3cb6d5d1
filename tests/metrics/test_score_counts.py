"""Counted scores give what the scores themselves give: moments exactly, rates and thresholds to a step of the grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import identity
from metrics.score_counts import BINS, STEP, ScoreCounts, count_scores, curve_of, fdr_of, rates_at


def test_by_hand():
    scores = ScoreCounts([-1, 0.5, 0.5, 1])
    assert (scores.total, scores.mean, scores.var) == (4, 0.25, 0.5625)
    assert (scores.lowest, scores.highest) == (-1, 1)
    assert [scores.below(t) for t in (-2, -1, 0.5, 0.5 + STEP, 1, 1.5)] == [0, 0, 1, 3, 3, 4]
    assert scores.below(0.5 + STEP / 3) == 1  # rounded down
    assert scores.counts[BINS] == 1 and scores.occupied()[1].tolist() == [1, 2, 1]
    assert ScoreCounts([0.3] * 3).var == 0
    with pytest.raises(ValueError, match="no score"):
        _ = ScoreCounts().mean


def people(rng, sizes, dimension=16):
    """Features around a centre a person, in mixed order."""
    rows = np.concatenate([rng.normal(size=dimension) + 0.6 * rng.normal(size=(n, dimension)) for n in sizes])
    labels = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    order = rng.permutation(len(rows))
    return rows[order] * rng.uniform(0.5, 3, (len(rows), 1)), labels[order]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=7), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_blocks_change_nothing(sizes, rows_at_once, columns_at_once, seed):
    features, labels = people(np.random.default_rng(seed), sizes)
    plain = identity.mated_nonmated(features, labels)
    counted = count_scores(features, labels, rows_at_once, columns_at_once)
    for scores, counts in zip(plain, counted, strict=True):
        assert counts.total == len(scores) == counts.counts.sum()
        if len(scores):
            assert (counts.mean, counts.sd) == (pytest.approx(scores.mean()), pytest.approx(scores.std()))
            assert counts.highest == pytest.approx(scores.max()) and counts.lowest == pytest.approx(scores.min())


def test_rates_and_thresholds_are_those_of_the_scores():
    features, labels = people(np.random.default_rng(1), [4] * 40)
    mated, nonmated = identity.mated_nonmated(features, labels)
    counted = count_scores(features, labels, 50, 70)
    curve = curve_of(*counted)
    assert identity.eer_of(curve) == pytest.approx(identity.eer(mated, nonmated), abs=1 / len(mated))
    assert fdr_of(*counted) == pytest.approx(identity.fdr(mated, nonmated))
    for fmr in (0.3, 1e-2, 1e-3, 0):
        plain, found = identity.fnmr_at_fmr(mated, nonmated, fmr), identity.point_at_fmr(curve, fmr)
        assert found.threshold == plain.threshold or abs(found.threshold - plain.threshold) <= STEP
        assert found.fmr <= fmr and found.fnmr == pytest.approx(plain.fnmr, abs=1 / len(mated))
    for threshold in (-0.5, 0.1, 0.4, 0.9):
        expected = identity.fmr_fnmr_at(mated, nonmated, threshold)
        assert rates_at(*counted, threshold) == pytest.approx(expected, abs=1 / len(mated))


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="3 features but 2 labels"):
        count_scores(np.eye(3), ["a", "b"])
    with pytest.raises(ValueError, match="zero or not finite"):
        count_scores(np.zeros((2, 3)), ["a", "b"])
    with pytest.raises(ValueError, match="no score"):
        curve_of(ScoreCounts(), ScoreCounts([0.1]))
    with pytest.raises(ValueError, match="no score"):
        rates_at(ScoreCounts([0.1]), ScoreCounts(), 0)
    assert fdr_of(ScoreCounts([0.5]), ScoreCounts([0.5])) == 0
    assert fdr_of(ScoreCounts([0.5]), ScoreCounts([0.25])) == np.inf
