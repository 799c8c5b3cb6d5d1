"""Warping pictures by affine maps without aliasing or ringing: wavelet upsampling, bilinear sampling, downsampling.

Karras et al. 2020 (ADA), appendix B.2: both resamplings use the sym6 wavelet's low-pass filter. Its even shifts are
orthonormal, so going up and straight down again is the identity. Each resampling, its mirrored border included, is
one matrix along each axis.
"""

import functools
import math

import numpy as np
import torch

from torch_utils.ops.grid_sample import grid_sample

# Low-pass decomposition filter of the sym6 wavelet (Daubechies 1992, table 6.3); its sum is sqrt 2.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
CENTER = sum(index * tap for index, tap in enumerate(SYM6)) / sum(SYM6)  # the filter's delay, in fine pixels


def mirrored(index: int, size: int) -> int:
    """The pixel of an axis of `size` that lies at `index`, where the axis goes on mirrored beyond its outer pixels."""
    if size == 1:
        return 0
    index = abs(index) % (2 * size - 2)
    return min(index, 2 * size - 2 - index)


@functools.lru_cache(maxsize=16)
def _resample_matrices(
    size: int, margin: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(up, down) for an axis of `size` pixels, kept on the device: at 1024 pixels they are 25 MB.

    up [2 * (size + 2 * margin) + 10, size]: the axis extended by `margin` mirrored pixels on both sides, twice as fine.
    down [size, 2 * size + 10]: back from the fine samples that the output's pixels need.
    """
    taps = np.array(SYM6)
    fine = 2 * (size + 2 * margin) + len(taps) - 2
    up = np.zeros([fine, size])
    for coarse in range(-margin - len(taps), size + margin + len(taps)):
        source = mirrored(coarse, size)
        first = 2 * (coarse + margin)
        for index, tap in enumerate(taps):
            if 0 <= first + index < fine:
                up[first + index, source] += tap * math.sqrt(2)
    down = np.zeros([size, 2 * size + len(taps) - 2])
    for coarse in range(size):
        down[coarse, 2 * coarse : 2 * coarse + len(taps)] = taps / math.sqrt(2)
    return torch.from_numpy(up).to(device, dtype), torch.from_numpy(down).to(device, dtype)


def warp(images: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """Draws each picture moved by an affine map: images float32 or float64 [N, C, H, W] -> the same shape.

    inverse [N, 3, 3]: output -> input position, in pixels, (x, y, 1) from the picture's centre. Beyond its border a
    picture is mirrored. Differentiable in the images any number of times.
    """
    height, width = images.shape[2:]
    margin_y, margin_x = height // 2, width // 2
    up_y, down_y = _resample_matrices(height, margin_y, images.device, images.dtype)
    up_x, down_x = _resample_matrices(width, margin_x, images.device, images.dtype)
    fine = up_y @ images @ up_x.t()  # [N, C, fine H, fine W]
    grid = fine_grid(inverse.to(images.dtype), height, width, (margin_y, margin_x), (fine.shape[2], fine.shape[3]))
    return down_y @ grid_sample(fine, grid) @ down_x.t()  # [N, C, H, W]


def fine_grid(
    inverse: torch.Tensor, height: int, width: int, margins: tuple[int, int], fine: tuple[int, int]
) -> torch.Tensor:
    """Where each fine output sample lies in the fine, extended input, as grid_sample counts: [N, 2H + 10, 2W + 10, 2].

    The fine sample j lies at pixel (j - CENTER) / 2 of its axis.
    """
    device = inverse.device
    xs = (torch.arange(2 * width + len(SYM6) - 2, device=device, dtype=inverse.dtype) - CENTER) / 2 - (width - 1) / 2
    ys = (torch.arange(2 * height + len(SYM6) - 2, device=device, dtype=inverse.dtype) - CENTER) / 2 - (height - 1) / 2
    linear, shift = inverse[:, :2, :2], inverse[:, :2, 2]
    position = (
        xs[None, None, :, None] * linear[:, None, None, :, 0]
        + ys[None, :, None, None] * linear[:, None, None, :, 1]
        + shift[:, None, None, :]
    )  # [N, 2H + 10, 2W + 10, (x, y)] in pixels from the centre
    half = position.new_tensor([(width - 1) / 2 + margins[1], (height - 1) / 2 + margins[0]])
    index = (position + half) * 2 + CENTER
    return index * 2 / position.new_tensor([fine[1] - 1, fine[0] - 1]) - 1
