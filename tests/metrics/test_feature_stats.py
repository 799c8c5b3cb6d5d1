"""Statistics do not depend on how the features came, and keep their digits; over processes they are one whole's."""

from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from metrics.feature_stats import FeatureStats


def test_by_hand() -> None:
    stats = FeatureStats.empty(2)
    stats.append([[1, 2]])
    stats.append(np.array([[3, 6], [5, 4]], dtype=np.float32))
    assert stats.number == 3 and stats.mean.tolist() == [3, 4]
    assert stats.covariance == pytest.approx(np.array([[4.0, 2.0], [2.0, 4.0]]))


@pytest.mark.parametrize("sizes", [(50,), (1,) * 50, (7, 0, 43)])
def test_batches_do_not_matter(sizes: tuple[int, ...]) -> None:
    features = np.random.default_rng(0).standard_normal((50, 6))
    stats = FeatureStats.empty(6)
    for part in np.split(features, np.cumsum(sizes)[:-1]):
        stats.append(part)
    assert stats.mean == pytest.approx(features.mean(axis=0), rel=1e-13)
    assert stats.covariance == pytest.approx(np.cov(features.T), rel=1e-12)


def test_a_large_mean_costs_no_digits() -> None:
    """Sums of squares about zero would leave 1e16 - 1e16, which is nothing."""
    features = 1e8 + np.random.default_rng(1).integers(0, 2, (64, 3)).astype(np.float64)
    stats = FeatureStats.empty(3)
    for row in features:
        stats.append(row[None])
    assert stats.covariance == pytest.approx(np.cov((features - 1e8).T), rel=1e-6)


def test_what_has_no_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="1 features have no covariance"):
        _ = FeatureStats.of([[1.0, 2.0]]).covariance
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        FeatureStats.of([1.0, 2.0])
    with pytest.raises(ValueError, match="3 numbers cannot join features of 2"):
        FeatureStats.empty(2).append(np.zeros((1, 3)))


def _share(rank: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    features = np.load(f"{folder}/features.npy")
    own = FeatureStats.empty(features.shape[1])
    if rank < world - 1:  # the last process has nothing
        own.append(features[rank :: world - 1])
    total = own.summed()
    np.savez(f"{folder}/{rank}.npz", number=total.number, mean=total.mean, covariance=total.covariance)
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_together_have_the_whole(tmp_path: Path) -> None:
    features = 100 + np.random.default_rng(2).standard_normal((31, 5))
    np.save(tmp_path / "features.npy", features)
    spawn(_share, args=(3, str(tmp_path)), nprocs=3)
    for rank in range(3):
        total = np.load(tmp_path / f"{rank}.npz")
        assert total["number"] == 31 and total["mean"] == pytest.approx(features.mean(axis=0), rel=1e-13)
        assert total["covariance"] == pytest.approx(np.cov(features.T), rel=1e-12)
