"""Figures of features, against those of their scores."""

from __future__ import annotations

import numpy as np
import pytest

from metrics import identity
from metrics.score_counts import STEP
from metrics.separability import leakage_of, separability


def people(number: int, pictures: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = np.repeat(rng.standard_normal((number, 16)), pictures, axis=0)
    return features + 0.7 * rng.standard_normal(features.shape), np.repeat(np.arange(number), pictures)


def test_figures_are_those_of_the_scores() -> None:
    features, labels = people(40, 5, 0)
    mated, nonmated = identity.mated_nonmated(features, labels)
    found = separability(features, labels)
    assert (found.mated.total, found.nonmated.total) == (len(mated), len(nonmated)) == (400, 19500)
    assert found.eer == pytest.approx(identity.eer(mated, nonmated), abs=1 / 400)
    assert found.fdr == pytest.approx(identity.fdr(mated, nonmated))
    assert found.d_prime == pytest.approx(identity.d_prime(mated, nonmated))
    for text, fmr in {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}.items():
        expected = identity.fnmr_at_fmr(mated, nonmated, fmr).fnmr
        assert found.fnmr[text] == pytest.approx(expected, abs=2 / 400)
    deviates = identity.det(found.curve, found.mated.total, found.nonmated.total)
    exact = identity.det(identity.roc(mated, nonmated), len(mated), len(nonmated))
    assert np.interp(0, deviates[1], deviates[0]) == pytest.approx(np.interp(0, exact[1], exact[0]), abs=0.02)
    few = separability(*people(3, 2, 1))
    assert few.fnmr == {"1e-2": None, "1e-3": None, "1e-4": None}


def test_histograms_of_counts_are_those_of_the_scores() -> None:
    """Bins are borders of the grid, so no score changes sides by being rounded down."""
    features, labels = people(30, 4, 2)
    scores, found = identity.mated_nonmated(features, labels), separability(features, labels)
    for values, counts in zip(scores, (found.mated, found.nonmated), strict=True):
        middles, numbers = counts.occupied()
        again = np.histogram(middles, bins=64, range=(-1, 1), weights=numbers)[0]
        assert np.array_equal(again, identity.histogram(values, bins=64))


def test_leakage_is_the_share_that_comes_too_close() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.standard_normal((300, 24)), rng.standard_normal((500, 24))
    synthetic[:25] = 3 * real[:25] + 0.5 * rng.standard_normal((25, 24))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (synthetic, real)]
    highest = (unit[0] @ unit[1].T).max(axis=1)
    found = leakage_of(synthetic, real, 0.9)
    assert found.rate == np.mean(highest > 0.9) == 0.05 and found.highest == pytest.approx(highest.max(), abs=1e-6)
    assert (
        leakage_of(np.eye(3), 2 * np.eye(3), 1 - STEP) == (1.0, 1.0) and leakage_of(np.eye(3), np.eye(3), 1).rate == 0
    )


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="no score"):
        separability(np.eye(3), ["a", "b", "c"])
    with pytest.raises(ValueError, match="no real feature"):
        leakage_of(np.eye(3), np.empty((0, 3)), 0.5)
    with pytest.raises(ValueError, match="zero or not finite"):
        leakage_of(np.zeros((1, 3)), np.eye(3), 0.5)
