"""Frequency bands of pictures, for the augmentation that turns each up or down (Karras et al. 2020, ADA, appendix B.2).

A wavelet's low-pass filter is power complementary: with its autocorrelation L and the mirrored high-pass H, L + H = 1.
Splitting the low half again and again gives octave bands that add up to the picture itself.
"""

import functools

import numpy as np
import torch

from training.augment_geometry import mirrored

# Low-pass decomposition filter of the sym2 wavelet; its sum is sqrt 2.
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
BANDS = 4  # [0, pi/8], [pi/8, pi/4], [pi/4, pi/2], [pi/2, pi]


def octave_bands() -> np.ndarray:
    """Symmetric filters of the bands, lowest first, adding up to a single 1 in the middle: [4, 43]."""
    low = np.convolve(SYM2, SYM2[::-1]) / 2  # 7 taps, sum 1
    high = -low
    high[len(low) // 2] += 1  # power complementary: what the low half lacks
    passed, bands = np.ones(1), []
    for level in range(BANDS - 1):
        bands.append(np.convolve(passed, _spread(high, 2**level)))
        passed = np.convolve(passed, _spread(low, 2**level))
    bands.append(passed)
    width = len(passed)
    return np.stack([np.pad(band, (width - len(band)) // 2) for band in reversed(bands)])


def _spread(taps: np.ndarray, step: int) -> np.ndarray:
    """f(z) -> f(z^step): zeros between the taps."""
    spread = np.zeros((len(taps) - 1) * step + 1)
    spread[::step] = taps
    return spread


@functools.lru_cache(maxsize=16)
def band_matrices(size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Each band as a matrix along an axis of `size` pixels, mirrored at the border: [4, size, size], summing to 1."""
    bands = octave_bands()
    reach = bands.shape[1] // 2
    matrices = np.zeros([BANDS, size, size])
    for pixel in range(size):
        for offset in range(-reach, reach + 1):
            matrices[:, pixel, mirrored(pixel + offset, size)] += bands[:, reach + offset]
    return torch.from_numpy(matrices).to(device, dtype)


def amplify_bands(images: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """images [N, C, H, W], gains [N, 4] -> the pictures with each band scaled, along both axes."""
    height, width = images.shape[2:]
    bands_y, bands_x = (band_matrices(size, gains.device, gains.dtype) for size in (height, width))
    rows = torch.einsum("nb,bij->nij", gains, bands_y).to(images.dtype)  # [N, H, H]
    columns = torch.einsum("nb,bij->nij", gains, bands_x).to(images.dtype)  # [N, W, W]
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)
