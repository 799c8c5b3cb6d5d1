"""Small array tools: soft steps, bumps, bilinear look-ups in textures, tileable noise. All float32."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from torch_utils.streams import stream

Array = np.ndarray
_NOISE_SIZE = 256  # a power of two: coordinates wrap with a mask


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 at `low`, 1 at `high` (either may be the larger), with a smooth way between."""
    t = np.clip((x - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(x: Array, y: Array, cx: float, cy: float | Array, sx: float, sy: float) -> Array:
    """A Gaussian hill of height 1 around (cx, cy)."""
    dx, dy = (x - cx) * (1.0 / sx), (y - cy) * (1.0 / sy)
    return np.exp(-0.5 * (dx * dx + dy * dy))


def lerp(a: Array, b: Array | float, t: Array | float) -> Array:
    """From a (t = 0) to b (t = 1)."""
    return a + (b - a) * t


class Lookup:
    """Bilinear look-ups of several textures [N, N] at the same places: u to the right, v up, both in [-1, 1]."""

    def __init__(self, u: Array, v: Array, size: int) -> None:
        half = 0.5 * (size - 1)
        limit = np.float32(size - 1.001)
        x = np.clip(u * half + half, 0.0, limit)
        y = np.clip(v * half + half, 0.0, limit)
        column, row = x.astype(np.int32), y.astype(np.int32)
        self._x, self._y = x - column, y - row
        self._index = row * size + column
        self._size = size

    def __call__(self, texture: Array) -> Array:
        flat = texture.ravel()
        index, x = self._index, self._x
        bottom = flat.take(index)
        bottom += (flat.take(index + 1) - bottom) * x
        index = index + self._size
        top = flat.take(index)
        top += (flat.take(index + 1) - top) * x
        return bottom + (top - bottom) * self._y


@lru_cache(maxsize=1)
def _noise_table() -> Array:
    """Smooth tileable noise of mean 0 and deviation 1, float32 [256 * 256]; a cell of it is about two texels."""
    white = stream(0, "example_faces.noise").standard_normal((_NOISE_SIZE, _NOISE_SIZE)).astype(np.float32)
    smooth = ndimage.gaussian_filter(white, 0.8, mode="wrap")
    return (smooth / smooth.std()).ravel()


def noise(x: Array, y: Array, offset: int = 0) -> Array:
    """Noise at (x, y), one texel of it a unit; other offsets give other noise."""
    mask = _NOISE_SIZE - 1
    fx, fy = np.floor(x), np.floor(y)
    column = fx.astype(np.int32) + (offset & mask)
    row = fy.astype(np.int32) + (offset >> 8 & mask)
    x, y = x - fx, y - fy
    table = _noise_table()
    left, right = column & mask, (column + 1) & mask
    low, high = (row & mask) * _NOISE_SIZE, ((row + 1) & mask) * _NOISE_SIZE
    bottom = table.take(low + left)
    bottom += (table.take(low + right) - bottom) * x
    top = table.take(high + left)
    top += (table.take(high + right) - top) * x
    return bottom + (top - bottom) * y


def shifted(image: Array, rows: int, columns: int) -> Array:
    """result[i, j] = image[i + rows, j + columns], the border repeated."""
    height, width = image.shape
    i = np.clip(np.arange(height) + rows, 0, height - 1)
    j = np.clip(np.arange(width) + columns, 0, width - 1)
    return image.take(i, axis=0).take(j, axis=1)
