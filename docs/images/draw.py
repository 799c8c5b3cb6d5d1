"""Draws the README's pictures, the second from what `make demo` made: PYTHONPATH=. python docs/images/draw.py"""

from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.files import atomic_write_bytes
from example_faces.anatomy import sample_person
from example_faces.render import render_pair
from example_faces.shots import sample_shot
from torch_utils.image_tree import ImageTree, encode_png
from torch_utils.spectra import SPECTRA

HERE = Path(__file__).parent
SEED, PEOPLE, SHOTS, SIDE = 7, (1, 4, 7, 12), 3, 128
DEMO = Path("out/demo")
DEMO_PEOPLE, DEMO_SAMPLES, ENLARGED = 6, 4, 64


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 1 or 3] -> [H, W, 3]."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def strip(pairs: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Pairs beside one another, one row a spectrum."""
    return np.concatenate([np.concatenate([as_rgb(pair[name]) for pair in pairs], axis=1) for name in SPECTRA])


def example_faces() -> np.ndarray:
    people = [(sample_person(SEED, person), person) for person in PEOPLE]
    return strip(
        [render_pair(who, sample_shot(SEED, person, shot), SIDE) for who, person in people for shot in range(SHOTS)]
    )


def demo() -> np.ndarray:
    tree = ImageTree(DEMO)
    people = sorted({name.split("/")[1] for name in tree.names})[:DEMO_PEOPLE]
    pairs = []
    for person in people:
        own = [name for name in tree.names if name.startswith(f"VIS/{person}/")][:DEMO_SAMPLES]
        pairs += [
            {s.name: enlarged(tree.decode(name.replace("VIS", s.folder), s.mode)) for s in SPECTRA.values()}
            for name in own
        ]
    return strip(pairs)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(as_rgb(pixels)))
    return np.asarray(image.resize((ENLARGED, ENLARGED), Image.Resampling.NEAREST))


if __name__ == "__main__":
    atomic_write_bytes(HERE / "example_faces.png", encode_png(example_faces()))
    if DEMO.is_dir():
        atomic_write_bytes(HERE / "demo.png", encode_png(demo()))
