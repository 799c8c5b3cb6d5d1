"""The membership test: by hand, against the definition written out, and against resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.membership import membership


def test_by_hand():
    # Of 2 x 3 pairs a member wins 4 and shares 1: 4.5 / 6.
    found = membership(members=[3, 1], outsiders=[0, 1, 2])
    assert found.auc == pytest.approx(4.5 / 6)
    # Members' shares 1 and 1/2, variance 1/8; outsiders' 1, 3/4, 1/2, variance 1/16.
    reach = 1.959964 * np.sqrt(1 / 16 + 1 / 48)
    assert found.low == pytest.approx(4.5 / 6 - reach) and found.high == 1
    assert membership(members=[1, 2, 3], outsiders=[1, 2, 3]).auc == 0.5


def test_all_above_is_no_certainty():
    found = membership(members=[5, 6, 7, 8], outsiders=[1, 2, 3, 4])
    assert (found.auc, found.high) == (1, 1) and found.low == pytest.approx(0.025**0.25)
    other = membership(members=[1, 2, 3, 4], outsiders=[5, 6, 7, 8])
    assert (other.auc, other.low, other.high) == (0, 0, pytest.approx(1 - found.low))


numbers = st.lists(st.integers(0, 6), min_size=2, max_size=12)


@given(numbers, numbers)
def test_against_the_definition(members, outsiders):
    """Every pair one by one; the variance as the mean product of deviations of pairs that share a person."""
    wins = np.array([[1.0 if m > o else 0.5 if m == o else 0.0 for o in outsiders] for m in members])
    auc, (m, n) = wins.mean(), wins.shape
    found = membership(members=members, outsiders=outsiders)
    assert found.auc == pytest.approx(auc) and found.low <= found.auc <= found.high
    rows = sum((wins[i].mean() - auc) ** 2 for i in range(m)) / (m - 1) / m
    columns = sum((wins[:, j].mean() - auc) ** 2 for j in range(n)) / (n - 1) / n
    reach = 1.959963984540054 * np.sqrt(rows + columns)
    if 0 < auc < 1:
        assert found.low == pytest.approx(max(0, auc - reach)) and found.high == pytest.approx(min(1, auc + reach))
    mirrored = membership(members=outsiders, outsiders=members)
    assert (mirrored.auc, mirrored.low) == (pytest.approx(1 - found.auc), pytest.approx(1 - found.high))


def test_the_width_is_that_of_resampling():
    rng = np.random.default_rng(0)
    members, outsiders = np.round(rng.normal(0.5, 1, 80), 1), np.round(rng.normal(0, 1.5, 60), 1)  # with ties
    found = membership(members=members, outsiders=outsiders)
    drawn = [membership(members=rng.choice(members, 80), outsiders=rng.choice(outsiders, 60)).auc for _ in range(2000)]
    assert (found.low, found.high) == (pytest.approx(np.quantile(drawn, 0.025), abs=0.015),
                                       pytest.approx(np.quantile(drawn, 0.975), abs=0.015))  # fmt: skip


def test_the_interval_covers_a_half_where_there_is_nothing_to_tell():
    rng = np.random.default_rng(1)
    inside = [membership(members=rng.normal(size=30), outsiders=rng.normal(size=40)) for _ in range(1000)]
    share = np.mean([found.low <= 0.5 <= found.high for found in inside])
    assert 0.93 <= share <= 0.97


def test_too_few_scores_are_refused():
    with pytest.raises(ValueError, match="at least two member scores are needed, not 1"):
        membership(members=[1], outsiders=[1, 2])
    with pytest.raises(ValueError, match="at least two outsider scores"):
        membership(members=[1, 2], outsiders=[])
    with pytest.raises(ValueError, match="an? outsider score is not finite"):
        membership(members=[1, 2], outsiders=[np.nan, 1])
