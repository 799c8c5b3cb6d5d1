"""Small pictures to look at: a grid of each of the first people's samples, VIS over NIR (the original's mini previews).

    OUT/previews/{identity}.jpg

They come of the stored files and of nothing else, so that they show what the dataset holds, whatever its format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnnlib.files import atomic_write_bytes
from generation.candidates import Encoded
from generation.encoding import Encoding, decode
from generation.layouts import Layout, Places
from generation.page import shrunk
from torch_utils.images import image_grid
from torch_utils.spectra import SPECTRA

PREVIEWS = "previews"
COLUMNS, MOST_SAMPLES = 8, 64
LOOK = Encoding("jpg", 90)


@dataclass
class WithPreviews:
    """A layout that also draws the first `count` people."""

    layout: Layout
    outdir: Path
    count: int

    @property
    def spare(self) -> float:
        return self.layout.spare

    def add(self, identity: int, samples: Sequence[Encoded]) -> None:
        if identity < self.count:
            atomic_write_bytes(self.outdir / PREVIEWS / f"{identity}.jpg", draw(samples))
        self.layout.add(identity, samples)

    def finish(self, identities: Sequence[int]) -> None:
        self.layout.finish(identities)

    def places(self, identity: int, sample: int) -> Places:
        return self.layout.places(identity, sample)

    def read(self, identity: int, sample: int, spectrum: str) -> bytes:
        return self.layout.read(identity, sample, spectrum)


def draw(samples: Sequence[Encoded]) -> bytes:
    """The first MOST_SAMPLES pairs of a person as a JPEG: a row of VIS, the same samples in NIR below, and so on."""
    rows = []
    for start in range(0, min(len(samples), MOST_SAMPLES), COLUMNS):
        for spectrum in SPECTRA:
            row = [_small(pair[spectrum], spectrum) for pair in samples[start : min(start + COLUMNS, MOST_SAMPLES)]]
            rows.append(image_grid(np.stack(row), COLUMNS if start else min(COLUMNS, len(samples))))
    return LOOK.encode(np.concatenate(rows).transpose(2, 0, 1))


def _small(data: bytes, spectrum: str) -> np.ndarray:
    """uint8 [H, W, 3]"""
    pixels = shrunk(decode(data, spectrum).transpose(1, 2, 0))
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
