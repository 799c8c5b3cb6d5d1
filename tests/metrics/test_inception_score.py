"""The inception score by hand and against its definition as entropies."""

import numpy as np
import pytest
import scipy.stats

from metrics.inception_score import inception_score


def test_by_hand() -> None:
    """Sure of one of four classes, all equally often: 4. Never sure: 1."""
    assert inception_score(np.tile(np.eye(4), (5, 1)), splits=5) == pytest.approx((4, 0))
    assert inception_score(np.full((20, 4), 0.25)) == pytest.approx((1, 0))


def test_of_parts_in_order() -> None:
    """One part knows two classes, the other one class alone: scores 2 and 1."""
    rows = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=float)
    assert inception_score(rows, splits=2) == pytest.approx((1.5, 0.5))


def test_is_the_exponential_of_the_mutual_information() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(7, 0.3), size=100).astype(np.float32)
    shared = scipy.stats.entropy(rows.mean(axis=0)) - scipy.stats.entropy(rows, axis=1).mean()
    assert inception_score(rows, splits=1)[0] == pytest.approx(np.exp(shared), rel=1e-5)


def test_too_few_pictures() -> None:
    with pytest.raises(ValueError, match="9 pictures cannot be cut into 10 parts"):
        inception_score(np.full((9, 4), 0.25))
