"""The buffers of a picture before light falls on it, and how layers are laid into them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from example_faces.sampling import Array

FAR = -1.2  # depth of the background, decimetres: near enough not to darken the outline too widely
Window = tuple[slice, slice]


@dataclass
class Canvas:
    """Float32 buffers over the samples of a picture; both spectra read the same ones, so they are aligned."""

    albedo: Array  # [4, S, S] R, G, B, NIR
    normal: Array  # [3, S, S] camera frame
    depth: Array  # [S, S] camera z
    gloss: Array  # [S, S] strength of the skin-like highlight
    open_air: Array  # [S, S] 1 where no crease or lid takes light away
    lit: Array  # [S, S] 1 where the scene's light counts, 0 for the background, whose albedo is its brightness
    strand: Array  # [S, S] 1 where the surface is hair

    def paint(self, coverage: Array, albedo: Array, normal: Array, depth: Array | float, gloss: Array | float) -> None:
        """Lays an opaque layer over what is there, with soft edges. albedo [4, S, S] or [4, 1, 1]."""
        for buffer, value in ((self.albedo, albedo), (self.normal, normal), (self.gloss, gloss), (self.depth, depth)):
            buffer += (value - buffer) * coverage
        self.open_air += (1.0 - self.open_air) * coverage
        self.lit += (1.0 - self.lit) * coverage
        self.strand -= self.strand * coverage


def blank(samples: int) -> Canvas:
    """An empty canvas: a far wall that faces the camera."""
    shape = (samples, samples)
    normal = np.zeros((3, *shape), np.float32)
    normal[2] = 1.0
    return Canvas(
        albedo=np.zeros((4, *shape), np.float32),
        normal=normal,
        depth=np.full(shape, FAR, np.float32),
        gloss=np.zeros(shape, np.float32),
        open_air=np.ones(shape, np.float32),
        lit=np.zeros(shape, np.float32),
        strand=np.zeros(shape, np.float32),
    )


def window_of(mask: Array, margin: int = 1) -> Window | None:
    """The smallest window that holds all of `mask`, or None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + 1 + margin),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + 1 + margin),
    )


def cut(buffer: Array, window: Window) -> Array:
    """The window's part of a buffer [..., S, S], a view."""
    index: tuple = (..., *window)
    return buffer[index]


def edge(distance: Array, pixel: float) -> Array:
    """Coverage of a half-plane whose border lies `distance` away (positive inside), one sample wide."""
    return np.clip(distance * (1.0 / pixel) + 0.5, 0.0, 1.0)


def as_band(colour: tuple[float, ...] | Array) -> Array:
    """A colour of four bands that broadcasts over a picture, [4, 1, 1]."""
    return np.asarray(colour, np.float32).reshape(4, 1, 1)
