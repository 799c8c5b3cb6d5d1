"""Small grey pictures, for comparing pixels: which pictures are nearly the same, whoever they show.

A thumbnail is SIDE x SIDE grey levels, each the mean of its part of the picture, so that compression, noise and a
little blur leave no trace. Two of them are compared by their correlation: the cosine of the grey levels less their own
mean (`correlated`), which neither brightness nor contrast changes.
"""

from __future__ import annotations

import contextlib
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.progress import progress
from torch_utils.picture_source import Pictures
from torch_utils.readers import lost_reader_named, made_in_order

SIDE = 16
BATCH = 64

Thumbnails = NDArray[np.uint8]  # [N, SIDE * SIDE]


def thumbnails(source: Pictures, workers: int = 0, show: bool = False) -> Thumbnails:
    """Those of all pictures, in order, read by `workers` processes (0: this one).

    Raises UserError for a picture that cannot be read, by name.
    """
    count = -(-len(source) // BATCH)

    def work() -> list[Thumbnails]:
        with contextlib.closing(made_in_order(partial(_batch, source), count, workers)) as made:
            return list(progress(made, desc="pixels", total=count, unit="batch", show=show))

    found = lost_reader_named(work)
    return np.concatenate(found) if found else np.zeros((0, SIDE * SIDE), dtype=np.uint8)


def thumbnail(pixels: NDArray[np.uint8]) -> Thumbnails:
    """uint8 [H, W, C] -> [SIDE * SIDE]."""
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("L")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)


def correlated(rows: Thumbnails) -> NDArray[np.float32]:
    """Rows [N, T] less their own mean, at length one: the cosine of two is their correlation.

    All pictures of one grey level are taken to be like each other and like no other.
    """
    values = rows.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    flat = lengths[:, 0] < 1e-3
    values /= np.where(lengths < 1e-3, 1, lengths)
    values[flat] = 1 / np.sqrt(np.float32(rows.shape[1]))  # at right angles to whatever has no mean
    return values


def _batch(source: Pictures, number: int) -> Thumbnails:
    indices = range(number * BATCH, min((number + 1) * BATCH, len(source)))
    return np.stack([thumbnail(source.decode(index)) for index in indices])
