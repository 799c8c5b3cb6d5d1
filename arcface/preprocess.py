"""The one place where a picture becomes the input of a recognition network (FACTS.md, "Identity features").

Training, embedding, verification and generation all call `preprocess`, so they cannot disagree about the
part of a picture that is seen, the resize filter, the order of the colours or the normalisation.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F


class Frame(NamedTuple):
    """The square of a picture that a network shall see: its left and upper edge and its side, as shares of the
    picture's own sides. Where it leaves the picture, the picture's border goes on."""

    left: float
    top: float
    side: float


def preprocess(
    images: torch.Tensor, input_size: int, color_order: str = "RGB", frame: Frame | None = None
) -> torch.Tensor:
    """Prepares pictures for a backbone.

    Grey pictures are repeated to three channels, what the frame shows is brought to input_size by antialiased bilinear
    filtering, and values become (x / 255 - 0.5) / 0.5.

    Args:
        images: uint8 [N, C, H, W], C 1 (grey, near infrared) or 3 (RGB).
        input_size: side of the network's input in pixels.
        color_order: 'RGB' or 'BGR', the order in which the network wants the channels.
        frame: the part that the network shall see (arcface.alignment.frame_between); None: all of a picture.

    Returns:
        float32 [N, 3, input_size, input_size] in [-1, 1], on the device of `images`.

    Raises:
        ValueError: another type, shape or colour order.
    """
    return normalise(resize(images, input_size, frame), color_order)


def resize(images: torch.Tensor, input_size: int, frame: Frame | None = None) -> torch.Tensor:
    """The first half of `preprocess`, on whose result the device may change: uint8 [N, C, H, W] -> [N, C, S, S] in
    0 to 255, still uint8 where nothing was to be done, else float32. Raises ValueError as `preprocess` does."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be uint8 [N, 1 or 3, H, W], not {images.dtype} {tuple(images.shape)}")
    if frame is not None:
        return _cut(images, input_size, frame)
    if images.shape[2:] == (input_size, input_size):
        return images
    size = (input_size, input_size)
    return F.interpolate(images.to(torch.float32), size, mode="bilinear", antialias=True, align_corners=False)


def normalise(resized: torch.Tensor, color_order: str = "RGB") -> torch.Tensor:
    """The second half: [N, 1 or 3, S, S] in 0 to 255 -> float32 [N, 3, S, S] in [-1, 1]."""
    if color_order not in ("RGB", "BGR"):
        raise ValueError(f"color_order must be RGB or BGR, not {color_order!r}")
    x = (resized.to(torch.float32) / 255).sub_(0.5).div_(0.5)  # [N, C, S, S]
    if x.shape[1] == 1:
        return x.repeat(1, 3, 1, 1)  # [N, 3, S, S]
    return x.flip(1) if color_order == "BGR" else x  # [N, 3, S, S]


def protocol(input_size: int, color_order: str = "RGB", frame: Frame | None = None) -> str:
    """The name of what `preprocess` does, for records and cache keys, such as bilinear-antialias-112-rgb, or with a
    frame bilinear-antialias-112-rgb-of-0.15,0.1875,0.7 (left, top, side)."""
    part = "" if frame is None else "-of-" + ",".join(f"{value:.6g}" for value in frame)
    return f"bilinear-antialias-{input_size}-{color_order.lower()}{part}"


# ----------------------------------------------------------------------------
# A frame at a network's size: the same filter along each axis, at places between the pixels.


def _cut(images: torch.Tensor, size: int, frame: Frame) -> torch.Tensor:
    """uint8 [N, C, H, W] -> float32 [N, C, size, size]."""
    rows, down = _axis(images.shape[2], size, frame.top, frame.side)
    columns, across = _axis(images.shape[3], size, frame.left, frame.side)
    part = images[:, :, rows, columns].to(torch.float32)  # [N, C, h, w]
    down_matrix, across_matrix = (torch.from_numpy(matrix).to(images.device) for matrix in (down, across))
    return (down_matrix @ part @ across_matrix.T).clamp_(0, 255)  # [N, C, size, size]; rounding may leave the range


@lru_cache(maxsize=16)
def _axis(length: int, size: int, start: float, side: float) -> tuple[slice, np.ndarray]:
    """Which pixels along an axis of `length` are seen, and their weights in each of `size` places, float32 [size, n]:
    a triangle as wide as two places, or two pixels where those are wider."""
    step = side * length / size  # pixels a place
    reach = max(step, 1.0)
    centres = start * length - 0.5 + (np.arange(size) + 0.5) * step  # (0: centre of the first pixel)
    pixels = np.arange(math.floor(centres[0] - reach), math.ceil(centres[-1] + reach) + 1)
    weights = (1 - np.abs(pixels - centres[:, None]) / reach).clip(min=0)  # [size, pixels]
    weights /= weights.sum(axis=1, keepdims=True)
    seen = pixels.clip(0, length - 1)
    matrix = np.zeros((size, seen[-1] - seen[0] + 1))
    np.add.at(matrix.T, seen - seen[0], weights.T)
    return slice(int(seen[0]), int(seen[-1]) + 1), matrix.astype(np.float32)
