"""Pair scores by hand."""

import numpy as np
import pytest
import torch

from arcface.backbones import build_backbone
from arcface.verification import pair_scores, verify_pairs
from arcface.weights import RecognitionModel


def test_cosines_by_hand() -> None:
    first = np.array([[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]])
    second = np.array([[4.0, 3.0], [0.0, 9.0], [-1.0, -1.0]])
    np.testing.assert_allclose(pair_scores(first, second), [24 / 25, 0.0, -1.0])


@pytest.mark.parametrize("row", [[0.0, 0.0], [np.nan, 1.0]])
def test_a_feature_without_direction_is_named(row: list[float]) -> None:
    with pytest.raises(ValueError, match="feature 1"):
        pair_scores(np.array([[1.0, 0.0], row]), np.ones((2, 2)))


def test_sides_must_match() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        pair_scores(np.ones((3, 2)), np.ones((2, 2)))


def test_a_mirror_picture_is_the_same_person_under_the_flip_test() -> None:
    torch.manual_seed(0)
    model = RecognitionModel("mbfn", 32, "RGB", "0" * 16, build_backbone("mbfn", 32).eval(), {})
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    np.testing.assert_allclose(verify_pairs(model, images, images.flip(3)), 1.0, atol=1e-6)
    assert (verify_pairs(model, images, images.flip(3), flip=False) < 1 - 1e-4).all()
