"""Precision and recall by hand, against all distances at once, and on generators that are known to be bad."""

import numpy as np
import pytest
import scipy.spatial.distance
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import precision_recall as room
from metrics.precision_recall import PrecisionRecall, precision_recall


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_on_a_line_by_hand() -> None:
    """Nearest neighbour. Real 0, 1, 10: balls of 1, 1, 9 -> 0..2 and 1..19. Fake 2, 30, 31: balls of 28, 1, 1 ->
    -26..30 and 29..32. Of the fakes 2 lies within the real ones; of the real ones all lie within the fakes' first."""
    found = precision_recall(real=column(0, 1, 10), fake=column(2, 30, 31), neighbours=1)
    assert found == PrecisionRecall(1 / 3, 1.0)
    assert precision_recall(real=column(2, 30, 31), fake=column(0, 1, 10), neighbours=1) == PrecisionRecall(1.0, 1 / 3)


def test_the_edge_belongs_to_the_ball() -> None:
    assert precision_recall(real=column(0, 1), fake=column(2, 9), neighbours=1).precision == 0.5
    assert precision_recall(real=column(0, 1), fake=column(2.0001, 9), neighbours=1).precision == 0


def by_scipy(real: np.ndarray, fake: np.ndarray, neighbours: int) -> tuple[float, float]:
    def share(probes: np.ndarray, manifold: np.ndarray) -> float:
        own = scipy.spatial.distance.cdist(manifold, manifold)
        np.fill_diagonal(own, np.inf)
        radii = np.sort(own, axis=1)[:, neighbours - 1]
        return float((scipy.spatial.distance.cdist(probes, manifold) <= radii).any(axis=1).mean())

    return share(fake, real), share(real, fake)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), many=st.integers(4, 60), drawn=st.integers(4, 60), dim=st.integers(1, 20))
def test_equals_all_distances_at_once(seed: int, many: int, drawn: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    real, fake = rng.standard_normal((many, dim)), rng.standard_normal((drawn, dim)) * 1.2 + 0.2
    assert precision_recall(real=real, fake=fake) == by_scipy(real, fake, 3)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((50, 6)).astype(np.float32), rng.standard_normal((41, 6)).astype(np.float32) + 0.3
    whole = precision_recall(real=real, fake=fake)
    monkeypatch.setattr(room, "BLOCK", 7)
    assert precision_recall(real=real, fake=fake) == whole and 0 < whole.recall < 1


def test_a_collapsed_generator_has_no_recall_and_a_noisy_one_no_precision() -> None:
    rng = np.random.default_rng(1)
    real = rng.standard_normal((400, 8))
    same = precision_recall(real=real, fake=rng.standard_normal((400, 8)))
    assert min(same) > 0.6
    collapsed = precision_recall(
        real=real, fake=np.tile(real[:1] * 0.5, (400, 1)) + 1e-4 * rng.standard_normal((400, 8))
    )
    assert collapsed.precision == 1 and collapsed.recall < 0.02
    noisy = precision_recall(real=real, fake=20 * rng.standard_normal((400, 8)))
    assert noisy.precision < 0.02 and noisy.recall > 0.9


def test_named_arguments_alone_and_enough_features() -> None:
    with pytest.raises(TypeError):
        precision_recall(column(0, 1), column(0, 1))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="more than 3 of each"):
        precision_recall(real=column(0, 1, 2), fake=column(0, 1, 2, 3))
