"""Identity features: what each distribution promises, and that a slot's feature depends on nothing but the slot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from dnnlib.errors import UserError
from generation.identity_sampling import RealLikeIdentities, build_sampler, load_given, principal_axes
from generation.spread import SpreadIdentities
from torch_utils.feature_file import FeatureSet, save_features


def correlated_features(count=400, size=12):
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(3, size))  # three directions carry all the variance
    return rng.normal(size=(count, 3)) @ axes + 2 * rng.normal(size=size)


@pytest.mark.parametrize("kind", ["random", "spread", "real-like"])
def test_a_slot_has_one_feature_in_any_company(kind):
    sampler = build_sampler(kind, seed=3, norm=4.0, real_features=correlated_features(), size=12)
    together = sampler(range(10))
    assert together.dtype == np.float32 and together.shape == (10, 12) and sampler.slots is None
    np.testing.assert_array_equal(sampler([7, 2]), together[[7, 2]])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 4.0, rtol=1e-6)
    other = build_sampler(kind, seed=4, norm=4.0, real_features=correlated_features(), size=12)
    assert not np.allclose(other(range(10)), together)
    assert sampler([]).shape == (0, 12)


def test_random_directions_are_even():
    rows = build_sampler("random", seed=0, norm=3.0, size=64)(range(2000)).astype(np.float64) / 3
    cosines = (rows @ rows.T)[np.triu_indices(2000, 1)]
    assert abs(cosines.mean()) < 0.001 and cosines.std() == pytest.approx(1 / np.sqrt(64), rel=0.01)
    # Moments of the uniform distribution on the sphere: mean 0, covariance 1 / D, fourth moment 3 / (D (D + 2)).
    assert np.abs(rows.mean(0)).max() < 5 / np.sqrt(64 * 2000)
    assert np.abs(rows.T @ rows / 2000 - np.eye(64) / 64).max() < 5 * np.sqrt(2) / 64 / np.sqrt(2000)
    assert (rows**4).mean() == pytest.approx(3 / (64 * 66), rel=0.02)


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


def test_real_like_features_have_the_moments_of_the_real_ones_and_copy_nobody():
    real = correlated_features(count=300, size=20)
    sampler = RealLikeIdentities(0, real, 1.0)
    values = np.linalg.eigvalsh(np.cov(real.T, bias=True))[::-1]
    assert sampler.axes.shape == (20, 3)  # three directions carry all of it
    np.testing.assert_allclose(np.linalg.norm(sampler.axes, axis=0) ** 2, values[:3], rtol=1e-9)
    np.testing.assert_allclose(sampler.axes @ sampler.axes.T, np.cov(real.T, bias=True), atol=1e-9)
    np.testing.assert_allclose(sampler.mean, real.mean(0))
    rows = sampler(range(200))
    units = real / np.linalg.norm(real, axis=1, keepdims=True)
    among = units @ units.T - 2 * np.eye(300)
    assert (rows @ units.T).max() < 0.99999
    # The nearest real feature is about as near to a drawn one as real ones are to one another.
    assert np.median((rows @ units.T).max(1)) == pytest.approx(np.median(among.max(1)), abs=0.01)


def test_the_components_kept_explain_the_variance():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 6)) * [10, 5, 1, 0.5, 0.1, 0.1]
    _, axes = principal_axes(real)
    kept = (axes**2).sum() / np.trace(np.cov(real.T, bias=True))
    assert axes.shape[1] == 3 and kept >= 0.99
    assert (axes[:, :2] ** 2).sum() / np.trace(np.cov(real.T, bias=True)) < 0.99


# ----------------------------------------------------------------------------
# Spread.


def largest_cosines(rows):
    """Of each row with any other."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (units @ units.T - 2 * np.eye(len(rows))).max(1)


def spread_and_start(real, size, group=64, count=192, seed=0):
    """Features of `spread`, and those of the distribution that it starts from, for the same slots."""
    mean, axes = (np.zeros(size), np.eye(size)) if real is None else principal_axes(real)
    kind = "random" if real is None else "real-like"
    start = build_sampler(kind, seed, 4.0, real, size)(range(count))
    return SpreadIdentities(seed, 4.0, mean, axes, group)(range(count)), start


def wide_features(count=400, size=48):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, size)) / np.sqrt(np.arange(1, size + 1)) + 0.15 * rng.normal(size=size)


@pytest.mark.parametrize("real", [None, wide_features()], ids=["sphere", "real people"])
def test_spread_points_are_farther_apart_than_those_they_start_from(real):
    spread, start = spread_and_start(real, 48)
    np.testing.assert_allclose(np.linalg.norm(spread, axis=1), 4.0, rtol=1e-5)
    within = [largest_cosines(rows[:64]) for rows in (spread, start)]
    across = [largest_cosines(rows) for rows in (spread, start)]
    for found, before in (within, across):
        assert found.max() < before.max() - 0.05 and found.mean() < before.mean() - 0.03
    # A later group keeps away from an earlier one, too.
    crossing = [(rows[128:] @ rows[:128].T).max(1) / 16 for rows in (spread, start)]
    assert crossing[0].mean() < crossing[1].mean() - 0.03


def test_spread_points_stay_within_the_real_distribution():
    real = wide_features()
    mean, axes = principal_axes(real)
    sampler = SpreadIdentities(0, 4.0, mean, axes, 64)
    directions = sampler(range(64)).astype(np.float64)
    # A feature is mean + axes z up to its length: the length at which that holds, and the z of it.
    inverse = np.linalg.pinv(np.column_stack([axes, -mean]))
    solved = directions @ inverse.T  # directions = axes a - mean b
    z = solved[:, :-1] / -solved[:, -1:]
    np.testing.assert_allclose(z @ axes.T + mean, directions / -solved[:, -1:], atol=1e-4)
    # Each as many standard deviations from the mean as the draw that it began with, and together in their middle.
    drawn = np.linalg.norm(sampler.start(0).numpy(), axis=1)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), drawn, rtol=1e-3)
    assert np.linalg.norm(z, axis=1).max() < stats.chi.ppf(1 - 1e-4, axes.shape[1])
    assert np.linalg.norm(z.mean(0)) < 0.05 * drawn.mean()


def test_spread_is_the_same_bits_in_any_order_and_number_of_threads():
    def sampler():
        return SpreadIdentities(5, 4.0, np.zeros(24), np.eye(24), 16)

    whole = sampler()(range(48))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        backwards = sampler()
        np.testing.assert_array_equal(backwards([40, 3]), whole[[40, 3]])
        np.testing.assert_array_equal(backwards(range(48)), whole)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    first = SpreadIdentities(5, 4.0, np.zeros(24), np.eye(24), 16)
    first.prepare([15])
    assert len(first.groups) == 1  # later groups are not computed before they are needed


def test_spread_groups_are_kept_and_not_computed_again(monkeypatch):
    class Kept(dict):
        def load_group(self, group):
            return self.get(group)

        def save_group(self, group, features):
            self[group] = features

    cache = Kept()
    whole = SpreadIdentities(0, 4.0, np.zeros(24), np.eye(24), 16, cache)(range(32))
    assert sorted(cache) == [0, 1]
    monkeypatch.setattr(SpreadIdentities, "_spread", lambda *_: pytest.fail("a kept group was computed again"))
    np.testing.assert_array_equal(SpreadIdentities(0, 4.0, np.zeros(24), np.eye(24), 16, cache)(range(32)), whole)


def test_spread_with_one_direction_only_stays_finite():
    rows = SpreadIdentities(0, 4.0, *principal_axes(np.array([[1.0, 2, 3], [3, 2, 2]])), 8)(range(8))
    assert np.isfinite(rows).all()


# ----------------------------------------------------------------------------
# The user's own.


def own_features(count=5, size=12):
    return np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)


def test_own_features_are_the_rows_of_the_file(tmp_path):
    rows = own_features()
    names = [f"{row}_0.png" for row in range(5)]
    np.save(tmp_path / "own.npy", rows.astype(np.float64))
    save_features(tmp_path / "own.safetensors", FeatureSet(rows, names, "m"))
    save_features(tmp_path / "own.json", FeatureSet(rows, names, "m"))
    for name in ("own.npy", "own.safetensors", "own.json"):
        given = load_given(tmp_path / name, 12, "m").features
        np.testing.assert_array_equal(given, rows)
        sampler = build_sampler(str(tmp_path / name), 0, 4.0, given=given)
        assert sampler.slots == 5
        np.testing.assert_allclose(sampler([3])[0], rows[3] * 4 / np.linalg.norm(rows[3]), rtol=1e-6)
        np.testing.assert_array_equal(sampler(range(3, 8))[1:], sampler([4, 4, 4, 4]))  # a chunk is filled up


def refusal(path, rows=None, model="m"):
    if rows is not None:
        np.save(path, rows)
    with pytest.raises(UserError) as refused:
        load_given(path, 12, model)
    assert str(refused.value).startswith(f"--identities: {path}: ") and "\n" not in str(refused.value)
    return str(refused.value)


def test_files_that_are_no_features_are_refused(tmp_path):
    rows, path = own_features(), tmp_path / "own.npy"
    assert "no such file; random, spread, real-like or" in refusal(tmp_path / "spred")
    assert "features of 11 numbers" in refusal(path, rows[:, :11])
    assert "row_2 holds NaN" in refusal(path, np.where(np.arange(5)[:, None] == 2, np.nan, rows))
    assert "all zeros" in refusal(path, np.where(np.arange(5)[:, None] == 2, 0, rows))
    assert "row_2 are equal" in refusal(path, np.where(np.arange(5)[:, None] == 2, 3, rows))
    assert "are the same" in refusal(path, rows[[0, 0]])
    assert "[N, C] is needed" in refusal(path, rows[0])
    assert "floating-point" in refusal(path, rows.astype(np.int32))
    assert "of shape [0, 12]" in refusal(path, rows[:0])
    assert "not an array" in refusal(path, np.array([[print]], dtype=object))
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    np.save(path, rows)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert "not an array" in refusal(path)
    path.write_bytes(whole.replace(b"(5, 12)", b"(5000000000000, 12)".ljust(7))[: len(whole)])
    assert "not an array" in refusal(path)
    for shape in (b"(True,12)", b"(-1, 12)", b"(((((,12"):  # of the header, which numpy evaluates
        path.write_bytes(whole.replace(b"(5, 12), }", shape + b", }"))
        assert "not an array" in refusal(path)


def test_features_of_another_model_are_refused(tmp_path):
    path = tmp_path / "own.safetensors"
    save_features(path, FeatureSet(own_features(), [f"{row}_0.png" for row in range(5)], "one"))
    assert "recognition model one, but the generator is conditioned on those of two" in refusal(path, model="two")
    assert load_given(path, 12, "unknown").model == "one"


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="real-like identities need real features"):
        build_sampler("real-like", 0, 1.0)
    with pytest.raises(ValueError, match="at least two"):
        build_sampler("real-like", 0, 1.0, np.ones((1, 4)))
    with pytest.raises(ValueError, match="random, spread, real-like or a file, not 'x'"):
        build_sampler("x", 0, 1.0)
