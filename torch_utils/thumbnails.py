"""Small grey pictures, for comparing pixels: which pictures are nearly the same, whoever they show.

A thumbnail is SIDE x SIDE grey levels, each the mean of its part of the picture, so that compression, noise and a
little blur leave no trace. Two of them are compared by their correlation: the cosine of the grey levels less their own
mean (`correlated`), which neither brightness nor contrast changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dnnlib.errors import UserError
from dnnlib.progress import progress
from torch_utils.picture_source import Pictures
from torch_utils.readers import loader_options, lost_reader_named

SIDE = 16
BATCH = 64

Thumbnails = NDArray[np.uint8]  # [N, SIDE * SIDE]


def thumbnails(source: Pictures, workers: int = 0, show: bool = False) -> Thumbnails:
    """Those of all pictures, in order, read by `workers` processes (0: this one).

    Raises UserError for a picture that cannot be read, by name.
    """
    batches = _Batches(source)
    loader = DataLoader(batches, batch_size=None, **loader_options(min(workers, len(batches)), prefetch=2))

    def work() -> list[Thumbnails]:
        with contextlib.closing(_read(loader)) as read:
            return list(progress(read, desc="pixels", total=len(batches), unit="batch", show=show))

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


class _Batches(Dataset):
    """Batch i of a source's thumbnails; the user's mistake comes as a value, not through DataLoader's traceback."""

    def __init__(self, source: Pictures) -> None:
        self.source = source

    def __len__(self) -> int:
        return -(-len(self.source) // BATCH)

    def __getitem__(self, number: int) -> Thumbnails | UserError:
        indices = range(number * BATCH, min((number + 1) * BATCH, len(self.source)))
        try:
            return np.stack([thumbnail(self.source.decode(index)) for index in indices])
        except UserError as error:
            return UserError(str(error))


def _read(loader: DataLoader) -> Generator[Thumbnails, None, None]:
    """The loader's batches; its processes end with this generator."""
    for batch in loader:
        if isinstance(batch, UserError):
            raise UserError(str(batch))
        yield np.asarray(batch)
