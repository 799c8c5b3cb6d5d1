"""Augmentation of recognition training: mirror, small shifts, turns and zooms, and light, on whole batches.

Everything is drawn from one generator, so a batch is repeatable from its seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class AugmentConfig:
    """How much a training picture is changed. 0 switches a part off.

    flip       probability of mirroring.
    shift      standard deviation of the shift, as a share of the side.
    zoom       standard deviation of the logarithm of the size.
    turn       standard deviation of the rotation in degrees.
    brightness standard deviation of the added light, in units of [-1, 1].
    contrast   standard deviation of the logarithm of the contrast.
    color      standard deviation of the logarithm of each channel's gain (none on grey pictures).
    noise      standard deviation of noise, in units of [-1, 1].
    blur       probability of a 3x3 binomial blur.
    """

    flip: float = 0.5
    shift: float = 0.03
    zoom: float = 0.04
    turn: float = 4.0
    brightness: float = 0.08
    contrast: float = 0.1
    color: float = 0.05
    noise: float = 0.0
    blur: float = 0.0


def augment(images: torch.Tensor, config: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """images float [N, 3, S, S] in [-1, 1] -> the same, changed. The generator lives on the CPU."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(len(images), *shape, generator=generator).to(images.device)

    def uniform() -> torch.Tensor:
        return torch.rand(len(images), generator=generator).to(images.device)

    x = _geometry(images, config, normal(4), uniform())
    gain = (config.contrast * normal(1, 1, 1)).exp()  # [N, 1, 1, 1]
    grey = (images[:, :1] == images).all(dim=(1, 2, 3), keepdim=True)  # [N, 1, 1, 1]: a NIR picture stays grey
    tint = (config.color * normal(3, 1, 1)).exp()  # [N, 3, 1, 1]
    gain = torch.where(grey, gain, gain * tint)
    x = x * gain + config.brightness * normal(1, 1, 1)
    if config.blur:
        x = torch.where((uniform() < config.blur)[:, None, None, None], _blurred(x), x)
    if config.noise:
        x = x + config.noise * torch.randn(x[:, :1].shape, generator=generator).to(x.device)
    return x.clamp(-1, 1)


def _geometry(images: torch.Tensor, config: AugmentConfig, normal: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """One resampling for mirror, shift, zoom and turn. normal [N, 4], chance [N]."""
    mirror = 1 - 2 * (chance < config.flip).to(images.dtype)  # [N], -1 or 1
    size = (config.zoom * normal[:, 0]).exp()  # [N]
    angle = math.radians(config.turn) * normal[:, 1]  # [N]
    shift = 2 * config.shift * normal[:, 2:]  # [N, 2], in the grid's unit: the side is 2
    cosine, sine = angle.cos() * size, angle.sin() * size
    matrix = torch.stack(
        [
            torch.stack([cosine * mirror, -sine, shift[:, 0]], dim=1),
            torch.stack([sine * mirror, cosine, shift[:, 1]], dim=1),
        ],
        dim=1,
    )  # [N, 2, 3]
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)  # [N, S, S, 2]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _blurred(x: torch.Tensor) -> torch.Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0], device=x.device) / 4
    weight = (kernel[:, None] * kernel[None, :]).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight, groups=3)
