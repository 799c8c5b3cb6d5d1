"""The one place where a picture becomes the input of a recognition network (FACTS.md, "Identity features").

Training, embedding, verification and generation all call `preprocess`, so they cannot disagree about the
resize filter, the order of the colours or the normalisation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def preprocess(images: torch.Tensor, input_size: int, color_order: str = "RGB") -> torch.Tensor:
    """Prepares pictures for a backbone.

    Grey pictures are repeated to three channels, the size is brought to input_size by antialiased bilinear
    filtering, and values become (x / 255 - 0.5) / 0.5.

    Args:
        images: uint8 [N, C, H, W], C 1 (grey, near infrared) or 3 (RGB).
        input_size: side of the network's input in pixels.
        color_order: 'RGB' or 'BGR', the order in which the network wants the channels.

    Returns:
        float32 [N, 3, input_size, input_size] in [-1, 1], on the device of `images`.

    Raises:
        ValueError: another type, shape or colour order.
    """
    return normalise(resize(images, input_size), color_order)


def resize(images: torch.Tensor, input_size: int) -> torch.Tensor:
    """The first half of `preprocess`, on whose result the device may change: uint8 [N, C, H, W] -> [N, C, S, S] in
    0 to 255, still uint8 where nothing was to be done, else float32. Raises ValueError as `preprocess` does."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be uint8 [N, 1 or 3, H, W], not {images.dtype} {tuple(images.shape)}")
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


def protocol(input_size: int, color_order: str = "RGB") -> str:
    """The name of what `preprocess` does, for records and cache keys, such as bilinear-antialias-112-rgb."""
    return f"bilinear-antialias-{input_size}-{color_order.lower()}"
