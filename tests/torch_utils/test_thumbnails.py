"""Thumbnails: by hand, and what they do and do not tell apart."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.errors import UserError
from torch_utils.image_tree import ImageTree, encode_png
from torch_utils.picture_source import TreePictures
from torch_utils.thumbnails import SIDE, correlated, thumbnail, thumbnails


def test_a_level_is_the_mean_of_its_part():
    levels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    grey = np.kron(levels, np.ones((3, 3), np.uint8))[..., None]
    assert (thumbnail(grey) == levels.ravel()).all()
    assert (thumbnail(np.repeat(grey, 3, axis=2)) == levels.ravel()).all()


def test_correlated_is_the_correlation():
    rows = np.random.default_rng(1).integers(0, 256, (6, 256)).astype(np.uint8)
    rows[1] = rows[0] // 2 + 20  # darker, and with less contrast
    found = correlated(rows).astype(np.float64)
    assert np.allclose(found @ found.T, np.corrcoef(rows), atol=1e-5) and found[0] @ found[1] > 0.999
    flat = correlated(np.stack([rows[0], np.full(256, 7, np.uint8), np.full(256, 200, np.uint8)])).astype(np.float64)
    assert flat[1] @ flat[2] == pytest.approx(1) and flat[0] @ flat[1] == pytest.approx(0, abs=1e-5)


def test_readers_change_nothing(tmp_path):
    rng = np.random.default_rng(2)
    (tmp_path / "a").mkdir()
    pictures = [rng.integers(0, 256, (20 + k % 3, 20 + k % 3, 3)).astype(np.uint8) for k in range(70)]
    for number, pixels in enumerate(pictures):
        (tmp_path / "a" / f"{number:02d}.png").write_bytes(encode_png(pixels))
    source = TreePictures(ImageTree(tmp_path), "vis", by_folder=True)
    alone, read = thumbnails(source), thumbnails(source, workers=2)
    assert (alone == read).all() and (alone == np.stack([thumbnail(pixels) for pixels in pictures])).all()
    (tmp_path / "a" / "33.png").write_bytes(b"nothing")
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"33\.png: not a PNG"):
            thumbnails(source, workers)
