"""Identity features: what each distribution promises, and that a slot's feature depends on nothing but the slot."""

from __future__ import annotations

import numpy as np
import pytest

from generation.identity_sampling import build_sampler


def correlated_features(count=400, size=12):
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(3, size))  # three directions carry all the variance
    return rng.normal(size=(count, 3)) @ axes + 2 * rng.normal(size=size)


@pytest.mark.parametrize("kind", ["random", "real-like"])
def test_a_slot_has_one_feature_in_any_company(kind):
    sampler = build_sampler(kind, seed=3, norm=4.0, real_features=correlated_features(), size=12)
    together = sampler(range(10))
    assert together.dtype == np.float32 and together.shape == (10, 12)
    np.testing.assert_array_equal(sampler([7, 2]), together[[7, 2]])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 4.0, rtol=1e-6)
    other = build_sampler(kind, seed=4, norm=4.0, real_features=correlated_features(), size=12)
    assert not np.allclose(other(range(10)), together)
    assert sampler([]).shape == (0, 12)


def test_random_directions_are_even():
    rows = build_sampler("random", seed=0, norm=1.0, size=512)(range(300))
    cosines = (rows @ rows.T)[np.triu_indices(300, 1)]
    assert abs(cosines.mean()) < 0.002 and cosines.std() == pytest.approx(1 / np.sqrt(512), rel=0.05)


def test_real_like_features_stay_in_the_span_and_the_shape_of_the_real_ones():
    real = correlated_features()
    norm = float(np.linalg.norm(real, axis=1).mean())
    rows = build_sampler("real-like", seed=0, norm=norm, real_features=real)(range(600)).astype(np.float64)
    # Every sample lies, up to its length, in the mean plus the three axes.
    basis = np.linalg.svd(np.vstack([real - real.mean(0), real.mean(0)]), full_matrices=False)[2][:4]
    np.testing.assert_allclose(rows @ basis.T @ basis, rows, atol=1e-4)
    # Directions are distributed as the real ones: first and second moments of unit rows.
    unit_real = real / np.linalg.norm(real, axis=1, keepdims=True)
    unit_rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.linalg.norm(unit_real.mean(0) - unit_rows.mean(0)) < 0.06
    assert np.abs(np.cov(unit_real.T) - np.cov(unit_rows.T)).max() < 0.02


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="real-like identities need real features"):
        build_sampler("real-like", 0, 1.0)
    with pytest.raises(ValueError, match="at least two"):
        build_sampler("real-like", 0, 1.0, np.ones((1, 4)))
    with pytest.raises(ValueError, match="random, real-like, not 'x'"):
        build_sampler("x", 0, 1.0)
