"""The kernel distance against sums written out, against its mean, and by the field's order of arguments."""

import numpy as np
import pytest

from metrics.kernel_distance import kernel_distance, squared_mmd


def test_by_hand() -> None:
    """One dimension, k(x, y) = (xy + 1)^3. real 0, 1: k = 1 off the diagonal; fake 1, 2: 27; across 1, 1, 8, 27."""
    assert squared_mmd(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])) == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_against_loops() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) + 1

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((np.dot(x, y) / 3 + 1) ** 3)

    own = [
        sum(kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j)
        / (len(rows) * (len(rows) - 1))
        for rows in (real, fake)
    ]
    across = sum(kernel(a, b) for a in real for b in fake) / (len(real) * len(fake))
    assert squared_mmd(real, fake) == pytest.approx(sum(own) - 2 * across, rel=1e-12)


def test_unbiased_of_one_distribution_and_more_the_further_apart() -> None:
    """Over 100 subsets the estimate of nothing is nothing, on both sides of zero; a biased one would be above 0.1."""
    rng = np.random.default_rng(1)
    real, fake = rng.standard_normal((2, 2000, 4))
    mean, sd = kernel_distance(real, fake, seed=0)
    assert abs(mean) < 0.02 and sd is not None and sd > 0
    near, far = (kernel_distance(real, fake + shift, seed=0)[0] for shift in (0.5, 1.0))
    assert 0.1 < near < far
    small = [squared_mmd(real[20 * i : 20 * i + 20], fake[20 * i : 20 * i + 20]) for i in range(100)]
    assert abs(np.mean(small)) < 3 * np.std(small) / 10 and min(small) < 0 < max(small)


def test_seeded_and_of_few_features() -> None:
    rng = np.random.default_rng(2)
    real, fake = rng.standard_normal((1500, 4)), rng.standard_normal((1200, 4)) + 0.3
    assert kernel_distance(real, fake, seed=5) == kernel_distance(real, fake, seed=5) != kernel_distance(real, fake, 6)
    assert kernel_distance(real[:50], fake[:50], seed=0) == (squared_mmd(real[:50], fake[:50]), None)
    mean, sd = kernel_distance(real[:60], fake[:50], seed=0)  # of the real ones there is a choice
    assert mean == pytest.approx(squared_mmd(real[:60], fake[:50]), abs=0.05) and sd is not None and sd > 0
    with pytest.raises(ValueError, match="two of each are the least"):
        squared_mmd(real[:1], fake)
