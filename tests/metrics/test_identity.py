"""metrics.identity: cases worked out by hand, and an oracle that counts errors one comparison at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import identity

# Four scores each, with one overlap: at t = 0.5, one of four mated scores is under it, one of four non-mated over it.
MATED = [0.4, 0.6, 0.7, 0.9]
NONMATED = [0.1, 0.2, 0.3, 0.5]

# Few distinct values, so that ties are common.
tied_scores = st.lists(st.sampled_from([i / 8 for i in range(-8, 9)]), min_size=1, max_size=25)


def count_errors(mated, nonmated, threshold):
    """The oracle: plain counting."""
    fmr = sum(score >= threshold for score in nonmated) / len(nonmated)
    fnmr = sum(score < threshold for score in mated) / len(mated)
    return fmr, fnmr


def test_mated_nonmated_by_hand():
    features = [[3, 0], [0, 2], [1, 1], [-5, 0]]
    mated, nonmated = identity.mated_nonmated(features, ["a", "b", "a", "b"])
    # (0,1) 0 other, (0,2) sqrt(1/2) same, (0,3) -1 other, (1,2) sqrt(1/2) other, (1,3) 0 same, (2,3) -sqrt(1/2) other
    half = math.sqrt(0.5)
    np.testing.assert_allclose(mated, [half, 0], atol=1e-15)
    np.testing.assert_allclose(nonmated, [0, -1, half, -half], atol=1e-15)


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_mated_nonmated_blocks_agree_with_a_double_loop(block):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 5))
    labels = rng.integers(0, 4, size=20)
    mated, nonmated = identity.mated_nonmated(features, labels, block=block)
    expected: dict[bool, list[float]] = {True: [], False: []}
    for i, j in itertools.combinations(range(20), 2):
        cosine = features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j])
        expected[bool(labels[i] == labels[j])].append(cosine)
    np.testing.assert_allclose(np.sort(mated), np.sort(expected[True]), atol=1e-12)
    np.testing.assert_allclose(np.sort(nonmated), np.sort(expected[False]), atol=1e-12)


def test_features_without_direction_are_refused():
    with pytest.raises(ValueError, match="zero or not finite"):
        identity.mated_nonmated([[0, 0], [1, 0]], [0, 1])
    with pytest.raises(ValueError, match="2 features but 1 labels"):
        identity.mated_nonmated([[1, 0], [1, 1]], [0])


def test_error_rates_by_hand():
    assert identity.fmr_fnmr_at(MATED, NONMATED, 0.5) == (0.5, 0.25, 0.25)  # a score equal to the threshold matches
    assert identity.fmr_fnmr_at(MATED, NONMATED, 0.55) == (0.55, 0.0, 0.25)
    assert identity.fmr_fnmr_at(MATED, NONMATED, -1) == (-1, 1.0, 0.0)


def test_eer_by_hand():
    assert identity.eer(MATED, NONMATED) == 0.25
    assert identity.eer([0.8, 0.9], [0.1, 0.2]) == 0.0
    assert identity.eer([0.1, 0.2], [0.8, 0.9]) == 1.0
    assert identity.eer([0.5, 0.5], [0.5, 0.5]) == 0.5  # all tied: (1, 0) at 0.5 and (0, 1) beyond it
    # Thresholds 1, 2, 3, inf: FMR 1, 2/3, 1/3, 0; FNMR 0, 0, 1/2, 1. They cross between 2 (sum 2/3) and 3 (sum 5/6).
    assert identity.eer([2, 3], [1, 2, 3]) == pytest.approx(1 / 3)


def test_fnmr_at_fmr_by_hand():
    assert identity.fnmr_at_fmr(MATED, NONMATED, 0.25) == (0.4, 0.25, 0.0)
    assert identity.fnmr_at_fmr(MATED, NONMATED, 0.01) == (0.6, 0.0, 0.25)
    assert identity.fnmr_at_fmr([0.1], [0.9], 0.5) == (math.inf, 0.0, 1.0)
    with pytest.raises(ValueError):
        identity.fnmr_at_fmr(MATED, NONMATED, 2)


def test_separability_by_hand():
    # mu 0.8 and 0.2, population variance 0.01 each: FDR = 0.36 / 0.02 = 18, d' = 0.6 / 0.1 = 6.
    assert identity.fdr([0.7, 0.9], [0.1, 0.3]) == pytest.approx(18)
    assert identity.d_prime([0.7, 0.9], [0.1, 0.3]) == pytest.approx(6)
    assert identity.fdr([1], [0]) == math.inf
    assert identity.fdr([1], [1]) == 0


def test_leakage_by_hand():
    assert identity.leakage([0.1, 0.5, 0.7, 0.9], 0.7) == (0.25, 0.9)
    with pytest.raises(ValueError, match="no real similarity score"):
        identity.leakage([], 0.7)
    with pytest.raises(ValueError, match="not finite"):
        identity.leakage([math.nan], 0.7)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(mated=tied_scores, nonmated=tied_scores)
def test_curve_counts_as_the_oracle_does(mated, nonmated):
    curve = identity.roc(mated, nonmated)
    for threshold, fmr, fnmr in zip(*curve, strict=True):
        assert (fmr, fnmr) == pytest.approx(count_errors(mated, nonmated, threshold))
    assert np.all(np.diff(curve.fmr) <= 0) and np.all(np.diff(curve.fnmr) >= 0)
    assert (curve.fmr[-1], curve.fnmr[-1]) == (0, 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(mated=tied_scores, nonmated=tied_scores)
def test_eer_lies_between_the_errors_where_they_cross(mated, nonmated):
    points = [count_errors(mated, nonmated, t) for t in [*sorted({*mated, *nonmated}), math.inf]]
    # Oracle: scan for the crossing and take the better neighbour.
    for index, (fmr, fnmr) in enumerate(points):
        if fmr == fnmr:
            expected = fmr
            break
        if fmr < fnmr:
            expected = min(sum(points[index]), sum(points[max(index - 1, 0)])) / 2
            break
    assert identity.eer(mated, nonmated) == pytest.approx(expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(mated=tied_scores, nonmated=tied_scores, scale=st.floats(0.5, 3), shift=st.floats(-2, 2))
def test_separability_does_not_depend_on_units(mated, nonmated, scale, shift):
    def moved(scores):
        return [scale * s + shift for s in scores]

    if np.var(mated) + np.var(nonmated) > 1e-6:
        assert identity.fdr(moved(mated), moved(nonmated)) == pytest.approx(identity.fdr(mated, nonmated), abs=1e-9)
        assert identity.d_prime(mated, nonmated) ** 2 == pytest.approx(2 * identity.fdr(mated, nonmated))


def test_all_rates_by_name_by_hand() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.6, 0.8]])
    found = identity.error_rates(*identity.mated_nonmated(features, np.array([0, 0, 1, 1])))
    # Mated 1 and 0.8; non-mated 0, 0, 0.6, 0.6. The threshold 0.9 - 2 * 0.1 lies between.
    assert found["mated_mean"] == pytest.approx(0.9) and found["mated_sd"] == pytest.approx(0.1)
    assert found["nonmated_mean"] == pytest.approx(0.3) and found["eer"] == 0
    assert found["fmr_at_mean_minus_2sd"] == 0 and found["fnmr_at_mean_minus_2sd"] == 0
    assert "fnmr_at_fmr_1e-2" not in found, "four non-mated scores do not tell"
    many = identity.error_rates(np.array([0.3, 0.9]), np.arange(100) / 200)
    assert many["fnmr_at_fmr_1e-2"] == 0.5 and "fnmr_at_fmr_1e-3" not in many


def test_scores_across_spectra_by_hand() -> None:
    """Pictures of one name, taken at once, are not compared."""
    vis = (np.array([[1.0, 0], [0, 1]]), ["a", "b"], ["a_0", "b_0"])
    nir = (np.array([[2.0, 0], [0.6, 0.8], [0, 1]]), ["a", "a", "b"], ["a_0", "a_1", "b_0"])
    for block in (1, 1024):
        mated, nonmated = identity.mated_nonmated_across(vis, nir, block)
        assert mated.tolist() == pytest.approx([0.6]) and sorted(nonmated) == pytest.approx([0, 0, 0.8])
    with pytest.raises(ValueError, match="2 features"):
        identity.mated_nonmated_across((vis[0], ["a"], ["a_0"]), nir)


def test_histograms_lose_nothing() -> None:
    assert identity.histogram([-1, -0.5, 0, 0.499, 1], bins=4).tolist() == [1, 1, 2, 1]
    assert identity.histogram([-2, 3, 0.75], bins=2, low=0, high=1).tolist() == [1, 2]


def test_det_by_hand() -> None:
    """Rates as normal deviates; what 4 scores each can show ends at 1/8, half a comparison from nothing."""
    fmr, fnmr = identity.det(identity.roc(MATED, NONMATED), 4, 4)
    one, quarter, half, eighth = 1.1503493803760079, -0.6744897501960817, 0, -1.1503493803760079
    # Thresholds .1, .2, .3, .4, .5: FMR 1, 3/4, 1/2, 1/4, 1/4; FNMR 0, 0, 0, 0, 1/4.
    np.testing.assert_allclose(fmr, [one, -quarter, half, quarter, quarter], atol=1e-12)
    np.testing.assert_allclose(fnmr, [eighth] * 4 + [quarter], atol=1e-12)


def test_normal_scores_lie_on_a_line() -> None:
    rng = np.random.default_rng(0)
    mated, nonmated = rng.normal(3, 2, 20_000), rng.normal(0, 1, 20_000)
    fmr, fnmr = identity.det(identity.roc(mated, nonmated), 20_000, 20_000)
    middle = (np.abs(fmr) < 2) & (np.abs(fnmr) < 2)
    # A threshold t has FMR deviate -t and FNMR deviate (t - 3) / 2.
    slope, start = np.polyfit(fmr[middle], fnmr[middle], 1)
    assert slope == pytest.approx(-0.5, abs=0.03) and start == pytest.approx(-1.5, abs=0.05)
