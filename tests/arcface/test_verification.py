"""Pair scores by hand, and benchmarks through a small network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcface.backbones import build_backbone
from arcface.benchmarks import find_benchmarks, write_bin
from arcface.embed import embed
from arcface.verification import pair_scores, score_benchmarks
from arcface.weights import RecognitionModel
from dnnlib.errors import UserError
from torch_utils.image_tree import encode_png


def test_cosines_by_hand() -> None:
    features = np.array([[3.0, 4.0], [4.0, 3.0], [1.0, 0.0], [0.0, 9.0], [-2.0, -2.0], [1.0, 1.0]])
    found = pair_scores(features, np.array([0, 2, 4]), np.array([1, 3, 5]))
    np.testing.assert_allclose(found, [24 / 25, 0.0, -1.0], atol=1e-15)


@pytest.mark.parametrize("row", [[0.0, 0.0], [np.nan, 1.0]])
def test_a_feature_without_direction_is_named(row: list[float]) -> None:
    with pytest.raises(ValueError, match="feature 1"):
        pair_scores(np.array([[1.0, 0.0], row]), np.array([0]), np.array([1]))


@pytest.fixture(scope="module")
def model() -> RecognitionModel:
    torch.manual_seed(0)
    return RecognitionModel("mbfn", 32, "RGB", "0" * 16, build_backbone("mbfn", 32).eval(), {})


def test_a_mirror_picture_is_the_same_person_under_the_flip_test(model: RecognitionModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]
    pairs = [(encode_png(a), encode_png(b)) for a, b in ((pictures[0], pictures[0][:, ::-1]), pictures[1:])]
    write_bin(tmp_path / "x.bin", pairs, [True, False])
    benchmarks = find_benchmarks(tmp_path)
    (found,) = score_benchmarks(model, benchmarks)
    assert (found.name, found.spectra, found.pictures, found.same.tolist()) == ("x", "vis-vis", 4, [True, False])
    assert found.scores[0] == pytest.approx(1, abs=1e-6)
    assert score_benchmarks(model, benchmarks, flip=False)[0].scores[0] < 1 - 1e-4
    features = embed(model, pictures, flip=True)
    assert found.scores[1] == pytest.approx(pair_scores(features, np.array([1]), np.array([2]))[0], abs=1e-6)


def test_a_broken_picture_is_named(model: RecognitionModel, tmp_path: Path) -> None:
    write_bin(tmp_path / "x.bin", [(b"nothing", b"else"), (b"a", b"b")], [True, False])
    with pytest.raises(UserError, match=r"x.bin: picture 0: not a PNG"):
        score_benchmarks(model, find_benchmarks(tmp_path))
