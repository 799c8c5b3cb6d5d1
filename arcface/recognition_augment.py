"""Augmentation of recognition training, on whole batches: geometry in one resampling, light, blur, erasing.

Everything is drawn from one generator for the batch of all processes together, so a batch is the same from its seed,
however many processes share it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from arcface.choices import AugmentConfig

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
CROP_AREA = (0.5, 1.0)  # of the picture, that a crop shows
ERASED_AREA = (0.02, 0.33)  # Zhong et al. 2020, table 1
ERASED_ASPECT = (0.3, 1 / 0.3)
SMALL_SIDE = (0.2, 1.0)  # of the picture's side, that low resolution keeps


class Draws:
    """This process's share of numbers that are drawn for the pictures of all processes, [local, ...] each.

    Picture k of process r is number k * processes + r of the whole batch. The generator lives on the CPU.
    """

    def __init__(self, count: int, generator: torch.Generator, device: torch.device, share: tuple[int, int]) -> None:
        self.generator, self.device = generator, device
        self.rank, self.world = share
        self.total = count * self.world

    def normal(self, *shape: int) -> torch.Tensor:
        return self._mine(torch.randn(self.total, *shape, generator=self.generator))

    def uniform(self, *shape: int) -> torch.Tensor:
        return self._mine(torch.rand(self.total, *shape, generator=self.generator))

    def chance(self, probability: float) -> torch.Tensor:
        """bool [local, 1, 1, 1]."""
        return self.uniform(1, 1, 1) < probability

    def _mine(self, values: torch.Tensor) -> torch.Tensor:
        return values[self.rank :: self.world].to(self.device)


def augment(
    images: torch.Tensor, config: AugmentConfig, generator: torch.Generator, share: tuple[int, int] = (0, 1)
) -> torch.Tensor:
    """images float [N, 3, S, S] in [-1, 1] -> the same, changed.

    share: this process's number and how many there are; its pictures are every so many of the whole batch.
    """
    draws = Draws(len(images), generator, images.device, share)
    grey = (images[:, :1] == images).all(dim=(1, 2, 3), keepdim=True)  # [N, 1, 1, 1]: a NIR picture stays grey
    x = _light(_geometry(images, config, draws), config, draws, grey)
    if config.low_res:
        x = _low_resolution(x, draws.chance(config.low_res).flatten(), draws.uniform())
    if config.blur:
        x = torch.where(draws.chance(config.blur), _blurred(x), x)
    if config.noise:
        x = x + config.noise * draws.normal(1, *x.shape[2:])
    if config.erase:
        x = torch.where(draws.chance(config.erase) & _rectangle(x.shape[-1], draws), 0.0, x)
    return x.clamp(-1, 1)


def _geometry(images: torch.Tensor, config: AugmentConfig, draws: Draws) -> torch.Tensor:
    """One resampling for mirror, crop, shift, zoom and turn."""
    normal = draws.normal(4)  # [N, 4]
    mirror = 1 - 2 * (draws.uniform() < config.flip).to(images.dtype)  # [N], -1 or 1
    size = (config.zoom * normal[:, 0]).exp()  # [N]: how much of the picture the new one shows, by its side
    angle = math.radians(config.turn) * normal[:, 1]  # [N]
    shift = 2 * config.shift * normal[:, 2:]  # [N, 2], in the grid's unit: the side is 2
    if config.crop:
        chance, place = draws.uniform(2), draws.uniform(2)  # [N, 2]
        low, high = CROP_AREA
        side = (low + (high - low) * chance[:, 1]).sqrt()  # [N]
        side = torch.where(chance[:, 0] < config.crop, side, 1.0)
        size, shift = size * side, shift + (1 - side[:, None]) * (2 * place - 1)
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


def _light(x: torch.Tensor, config: AugmentConfig, draws: Draws, grey: torch.Tensor) -> torch.Tensor:
    """Contrast, each channel's gain and brightness as one gain and one offset; before them saturation."""
    if config.saturation:
        luma = (x * torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)  # [N, 1, S, S]
        factor = (config.saturation * draws.normal(1, 1, 1)).exp()
        x = torch.where(grey, x, luma + (x - luma) * factor)
    gain = (config.contrast * draws.normal(1, 1, 1)).exp()  # [N, 1, 1, 1]
    tint = (config.color * draws.normal(3, 1, 1)).exp()  # [N, 3, 1, 1]
    return x * torch.where(grey, gain, gain * tint) + config.brightness * draws.normal(1, 1, 1)


def _low_resolution(x: torch.Tensor, chosen: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """The chosen pictures at a smaller size and back; chosen bool [N], chance [N] decides the size."""
    side = x.shape[-1]
    low, high = SMALL_SIDE
    sides = ((low + (high - low) * chance) * side).round().long().clamp(1, side)  # [N]
    y = x.clone()
    for small in sides[chosen].unique().tolist():
        mine = chosen & (sides == small)
        shrunk = F.interpolate(x[mine], (small, small), mode="bilinear", antialias=True, align_corners=False)
        y[mine] = F.interpolate(shrunk, (side, side), mode="bilinear", align_corners=False)
    return y


def _blurred(x: torch.Tensor) -> torch.Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0], device=x.device) / 4
    weight = (kernel[:, None] * kernel[None, :]).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight, groups=3)


def _rectangle(side: int, draws: Draws) -> torch.Tensor:
    """bool [N, 1, S, S]: a rectangle of random area, aspect and place in each, cut to what the picture can hold."""
    chance = draws.uniform(4)  # [N, 4]
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * chance[:, 0]
    low, high = math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])
    aspect = (low + (high - low) * chance[:, 1]).exp()
    places = (torch.arange(side, device=draws.device) + 0.5) / side  # [S], centres of pixels
    inside = []
    for extent, place in (((area * aspect).sqrt(), chance[:, 2]), ((area / aspect).sqrt(), chance[:, 3])):
        start = (1 - extent.clamp(max=1)) * place  # [N]
        inside.append((places >= start[:, None]) & (places < (start + extent)[:, None]))  # [N, S]
    rows, columns = inside
    return (rows[:, None, :, None] & columns[:, None, None, :]).contiguous()
