"""Pictures as tensors: to and from bytes, and many in one."""

import numpy as np
import torch


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """float [...] in [-1, 1] -> uint8 [...] in [0, 255]; values beyond are clamped. -1 -> 0, 1 -> 255."""
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(images: torch.Tensor) -> torch.Tensor:
    """uint8 [...] -> float32 [...] in [-1, 1]; the inverse of to_uint8."""
    return images.to(torch.float32) / 127.5 - 1


def image_grid(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [N, H, W, C] -> uint8 [rows * H, columns * W, C], filled row by row, the rest black."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=images.dtype)
    cells[:count] = images
    grid = cells.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)
