"""Rows of several processes become those of one, and their sums are the whole's."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from metrics.feature_stats import FeatureStats
from metrics.observers import Observer
from metrics.rows import Seen, brought_together, collect, share_of, stats_of
from torch_utils import distributed


def test_each_batch_is_shown_to_all_observers_once() -> None:
    drawn: list[int] = []

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for first in range(0, 6, 4):
            drawn.append(first)
            yield {"vis": torch.arange(first, min(first + 4, 6)).reshape(-1, 1, 1, 1)}

    means = Observer("mean", "", "", "", lambda seen: {"vis/features": seen["vis"].float().mean((2, 3)).numpy()})
    twice = Observer("twice", "", "", "", lambda seen: {"rows": 2 * seen["vis"].flatten().numpy()})
    found = collect(batches(), [means, twice])
    assert drawn == [0, 4] and list(found["twice"]["rows"]) == [0, 2, 4, 6, 8, 10]
    assert found["mean"]["vis/features"].shape == (6, 1)
    assert collect([], [means]) == {"mean": {}}


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("number", [0, 1, 5, 6])
def test_shares_make_the_whole(monkeypatch: pytest.MonkeyPatch, world: int, number: int) -> None:
    """Item i is process i mod P's; some processes may have none."""
    whole = np.arange(number * 2).reshape(number, 2)
    shares = [{"x": whole[rank::world]} if len(whole[rank::world]) else {} for rank in range(world)]
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    sizes = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        sizes.append(share_of(number))
    assert sizes == [len(whole[rank::world]) for rank in range(world)]
    monkeypatch.setattr(distributed, "gathered_at_first", lambda own: shares)
    found = brought_together(shares[0])
    assert (found == {} and number == 0) or np.array_equal(found["x"], whole)
    monkeypatch.setattr(distributed, "gathered_at_first", lambda own: [])
    assert brought_together(shares[-1]) == {}  # elsewhere than in the first process


def test_statistics_are_those_of_the_first_pictures() -> None:
    features = np.random.default_rng(0).standard_normal((9, 3))
    found = stats_of({"vis/features": features}, 7, ["vis"])["vis"]
    expected = FeatureStats.of(features[:7])
    assert found.number == 7 and np.allclose(found.mean, expected.mean) and np.allclose(found.scatter, expected.scatter)


def test_rows_by_spectrum_leave_out_what_was_not_looked_at() -> None:
    seen = Seen(2, rows={"arcface": {"nir/features": np.ones((2, 3)), "nir/other": np.zeros(2)}})
    assert seen.by_spectrum("arcface").keys() == {"nir"}
    assert np.array_equal(seen.by_spectrum("arcface", "other")["nir"], [0, 0])
