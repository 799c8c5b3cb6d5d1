"""The distance against a case by hand, against scipy's root, and against 60 digits where scipy's loses its own."""

import mpmath
import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from metrics.feature_stats import FeatureStats
from metrics.frechet import frechet_distance

Floats = NDArray[np.float64]


def drawn(number: int, dim: int, decades: float, seed: int) -> FeatureStats:
    """Turned normal features whose standard deviations fall over so many powers of ten."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    scales = 10.0 ** -np.linspace(0, decades, dim)
    return FeatureStats.of(rng.standard_normal(dim) + (rng.standard_normal((number, dim)) * scales) @ turn)


def by_scipy(first: FeatureStats, second: FeatureStats) -> float:
    root = scipy.linalg.sqrtm(first.covariance @ second.covariance)
    apart = np.square(first.mean - second.mean).sum()
    return float(apart + np.trace(first.covariance + second.covariance - 2 * root).real)


def by_mpmath(first: FeatureStats, second: FeatureStats) -> float:
    """The same in 60 digits: tr((C1^1/2 C2 C1^1/2)^1/2) from two eigendecompositions."""
    with mpmath.workdps(60):
        ours, theirs = mpmath.matrix(first.covariance.tolist()), mpmath.matrix(second.covariance.tolist())
        values, vectors = mpmath.eigsy(ours)
        factor = vectors * mpmath.diag([mpmath.sqrt(max(value, 0)) for value in values])
        shared = sum(mpmath.sqrt(max(v, 0)) for v in mpmath.eigsy(factor.T * theirs * factor, eigvals_only=True))
        apart = sum(mpmath.mpf(float(d)) ** 2 for d in first.mean - second.mean)
        return float(apart + sum(ours[i, i] + theirs[i, i] for i in range(ours.rows)) - 2 * shared)


def test_diagonal_by_hand() -> None:
    """(1-4)^2 + (2-6)^2 = 25; (sqrt 9 - sqrt 1)^2 + (sqrt 4 - sqrt 16)^2 = 8."""
    first = FeatureStats(2, np.array([1.0, 2.0]), np.diag([9.0, 4.0]))
    second = FeatureStats(2, np.array([4.0, 6.0]), np.diag([1.0, 16.0]))
    assert frechet_distance(first, second) == pytest.approx(33, rel=1e-14)
    assert frechet_distance(second, first) == pytest.approx(33, rel=1e-14)


@pytest.mark.parametrize("dim", [1, 2, 40])
def test_equals_scipy_where_the_covariance_is_well_conditioned(dim: int) -> None:
    first, second = drawn(200, dim, 0.5, seed=0), drawn(300, dim, 0.5, seed=1)
    assert frechet_distance(first, second) == pytest.approx(by_scipy(first, second), rel=1e-9)


@pytest.mark.parametrize(("number", "decades"), [(100, 4.0), (100, 8.0), (10, 0.0), (10, 3.0), (2, 0.0)])
def test_ill_conditioned_and_fewer_samples_than_dimensions(number: int, decades: float) -> None:
    """16 dimensions: condition numbers up to 1e16, ranks down to 1."""
    first, second = drawn(number, 16, decades, seed=2), drawn(number, 16, decades, seed=3)
    value = frechet_distance(first, second)
    assert value == pytest.approx(by_scipy(first, second), rel=1e-6)
    assert value == pytest.approx(by_mpmath(first, second), rel=1e-10)


@pytest.mark.parametrize(("number", "decades"), [(100, 8.0), (10, 0.0)])
def test_nearly_the_same_distribution_keeps_six_digits(number: int, decades: float) -> None:
    """Where scipy's root of the product is off by 1e-5 and more of so small a distance."""
    first = drawn(number, 16, decades, seed=4)
    second = FeatureStats(number, first.mean, first.scatter + 1e-3 * drawn(number, 16, decades, seed=5).scatter)
    assert frechet_distance(first, second) == pytest.approx(by_mpmath(first, second), rel=1e-6)


def test_of_itself_is_nothing() -> None:
    stats = drawn(100, 30, 3, seed=6)
    assert 0 <= frechet_distance(stats, stats) < 1e-12 * np.trace(stats.covariance)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="3 numbers against features of 2"):
        frechet_distance(FeatureStats.empty(3), FeatureStats.empty(2))
    with pytest.raises(ValueError, match="no covariance"):
        frechet_distance(FeatureStats.of([[1.0]]), FeatureStats.of([[1.0], [2.0]]))
