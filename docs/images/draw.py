"""Draws the README's picture of what `make demo` made, and example people: PYTHONPATH=. python docs/images/draw.py"""

from pathlib import Path

import numpy as np

from dnnlib.files import atomic_write_bytes
from example_faces.anatomy import sample_person
from example_faces.render import render_pair
from example_faces.shots import sample_shot
from torch_utils.image_tree import ImageTree, encode_png
from torch_utils.spectra import SPECTRA

Pair = dict[str, np.ndarray]  # uint8 [H, W, C] by spectrum

HERE = Path(__file__).parent
SEED, PEOPLE, SHOTS, SIDE = 7, (1, 4, 7, 12), 3, 128
DEMO, ROWS, ACROSS, SAMPLES = Path("out/demo"), 3, 3, 4  # people below and beside one another, pairs of each
GAP = 4  # white pixels between people


def strip(pairs: list[Pair]) -> np.ndarray:
    """Pairs beside one another, one row a spectrum."""

    def row(spectrum: str) -> np.ndarray:
        return np.concatenate([np.broadcast_to(p[spectrum], (*p[spectrum].shape[:2], 3)) for p in pairs], axis=1)

    return np.concatenate([row(spectrum) for spectrum in SPECTRA])


def joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Pictures with white between them."""
    side = np.full([GAP if i == axis else size for i, size in enumerate(parts[0].shape)], 255, np.uint8)
    return np.concatenate([parts[0], *(piece for part in parts[1:] for piece in (side, part))], axis=axis)


def example_faces() -> np.ndarray:
    people = [(sample_person(SEED, person), person) for person in PEOPLE]
    return strip(
        [render_pair(who, sample_shot(SEED, person, shot), SIDE) for who, person in people for shot in range(SHOTS)]
    )


def demo() -> np.ndarray:
    """The first people of the demo, a strip each: visible light above, near infrared below."""
    tree = ImageTree(DEMO)

    def of(person: int) -> list[Pair]:
        names = [f"{person}/{sample}.png" for sample in range(SAMPLES)]
        return [{s.name: tree.decode(f"{s.folder}/{name}", s.mode) for s in SPECTRA.values()} for name in names]

    strips = [[strip(of(row * ACROSS + column)) for column in range(ACROSS)] for row in range(ROWS)]
    return joined([joined(row, axis=1) for row in strips], axis=0)


if __name__ == "__main__":
    atomic_write_bytes(HERE / "example_faces.png", encode_png(example_faces()))
    if DEMO.is_dir():
        atomic_write_bytes(HERE / "demo.png", encode_png(demo()))
