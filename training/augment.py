"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data").

Each transform is applied to each picture on its own with probability p, in a fixed order; what the discriminator
sees is augmented, what the generator draws is not, as long as p stays below about 0.8. Each spectrum has its own
pipeline, because each discriminator sees one spectrum only.
"""

import math

import torch
from torch import nn

from torch_utils import distributed
from training.augment_filter import amplify_bands
from training.augment_geometry import warp
from training.choices import BLIT, COLOR, GEOMETRY

# Strengths (FACTS): standard deviations, in octaves where the transform is a factor.
SCALE_SD, ANISO_SD, CONTRAST_SD, SATURATION_SD = 0.2, 0.2, 0.5, 1.0
BRIGHTNESS_SD = 0.2
SHIFT_SD, SHIFT_MAX = 0.125, 0.125  # of the picture's width
BAND_SD = 1.0
BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # what natural pictures hold in each band, lowest first
NOISE_SD = 0.1
CUTOUT_SIZE = 0.5  # of the picture's side


class AugmentPipe(nn.Module):
    """The transforms of one spectrum, all with the probability `p` (a buffer, moved by AdaController)."""

    p: torch.Tensor

    def __init__(self, transforms: tuple[str, ...], p: float = 0.0) -> None:
        super().__init__()
        self.transforms = frozenset(transforms)
        self.register_buffer("p", torch.tensor(float(p)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float [N, C, H, W] in [-1, 1] -> the same shape; each picture draws its own transforms."""
        if float(self.p) == 0:
            return images
        if self.transforms & {*BLIT, *GEOMETRY}:
            images = _warp_moved(images, self._inverse_geometry(images))
        if self.transforms & {*COLOR}:
            images = self._recolor(images)
        if "filter" in self.transforms:
            images = amplify_bands(images, self._band_gains(len(images)))
        if "noise" in self.transforms:
            sigma = NOISE_SD * self._normal("noise", len(images)).abs()
            images = images + torch.randn_like(images) * sigma[:, None, None, None].to(images.dtype)
        if "cutout" in self.transforms:
            images = images * self._cutout_mask(images)
        return images

    # ------------------------------------------------------------------------
    # Chance.

    def _applies(self, name: str, count: int, probability: torch.Tensor | None = None) -> torch.Tensor:
        """bool [N]: which pictures the transform meets. The coin is thrown for absent ones, too, but never falls."""
        coin = torch.rand([count], device=self.p.device) < (self.p if probability is None else probability)
        return coin if name in self.transforms else torch.zeros_like(coin)

    def _normal(self, name: str, count: int) -> torch.Tensor:
        """float [N]: a normal number where the transform applies, else 0, the neutral one."""
        return torch.randn([count], device=self.p.device) * self._applies(name, count)

    # ------------------------------------------------------------------------
    # Geometry: one matrix a picture, output position -> input position.

    def _inverse_geometry(self, images: torch.Tensor) -> torch.Tensor:
        n, _, height, width = images.shape
        device = self.p.device

        # Pixel blitting: flip, quarter turns, whole pixels.
        flip = self._applies("xflip", n) & (torch.rand([n], device=device) < 0.5)
        turns = torch.randint(0, 4, [n], device=device) * self._applies("rotate90", n)
        whole = (torch.rand([2, n], device=device) * 2 - 1) * SHIFT_MAX * self._applies("xint", n)
        inverse = _scale(1 - 2.0 * flip, torch.ones([n], device=device))
        inverse = inverse @ _rotate(turns * (math.pi / 2))
        inverse = inverse @ _translate((whole[0] * width).round(), (whole[1] * height).round())

        # General geometry. Rotation happens before and after the stretch, so that the stretch takes any direction;
        # together the two have the probability p.
        half = 1 - (1 - self.p).sqrt()
        factor = torch.exp2(-SCALE_SD * self._normal("scale", n))
        inverse = inverse @ _scale(factor, factor)
        inverse = inverse @ _rotate(self._angle(n) * self._applies("rotate", n, half))
        stretch = torch.exp2(-ANISO_SD * self._normal("aniso", n))
        inverse = inverse @ _scale(stretch, 1 / stretch)
        inverse = inverse @ _rotate(self._angle(n) * self._applies("rotate", n, half))
        moved = torch.randn([2, n], device=device) * SHIFT_SD * self._applies("xfrac", n)
        return inverse @ _translate(moved[0] * width, moved[1] * height)  # [N, 3, 3]

    def _angle(self, count: int) -> torch.Tensor:
        return (torch.rand([count], device=self.p.device) * 2 - 1) * math.pi

    # ------------------------------------------------------------------------
    # Color: one affine map a picture.

    def _recolor(self, images: torch.Tensor) -> torch.Tensor:
        n, channels = images.shape[:2]
        brightness = BRIGHTNESS_SD * self._normal("brightness", n)
        contrast = torch.exp2(CONTRAST_SD * self._normal("contrast", n))
        offset = (brightness * contrast)[:, None, None, None]
        if channels != 3:  # hue, saturation and luma have no axis to act on
            return images * contrast[:, None, None, None].to(images.dtype) + offset.to(images.dtype)

        # In RGB, luma is the grey axis; the three others leave the grey of what they meet, or mirror it.
        device = self.p.device
        grey = torch.full([3, 3], 1 / 3, device=device)  # projection on the grey axis
        eye = torch.eye(3, device=device)
        flip = (self._applies("lumaflip", n) & (torch.rand([n], device=device) < 0.5)).float()[:, None, None]
        turn = _rotate_about_grey(self._angle(n) * self._applies("hue", n))
        saturation = torch.exp2(SATURATION_SD * self._normal("saturation", n))[:, None, None]
        matrix = (eye - 2 * grey * flip) * contrast[:, None, None]
        matrix = turn @ matrix
        matrix = (grey + (eye - grey) * saturation) @ matrix  # [N, 3, 3]
        shift = matrix @ brightness[:, None, None].expand(n, 3, 1)
        return (matrix.to(images.dtype) @ images.flatten(2) + shift.to(images.dtype)).reshape(images.shape)

    # ------------------------------------------------------------------------
    # Corruption.

    def _band_gains(self, count: int) -> torch.Tensor:
        """[N, 4]: each band in turn may be scaled, after which the expected power is what it was."""
        power = torch.tensor(BAND_POWER, device=self.p.device)
        gains = torch.ones([count, len(BAND_POWER)], device=self.p.device)
        for band in range(len(BAND_POWER)):
            turned = torch.ones_like(gains)
            turned[:, band] = torch.exp2(BAND_SD * self._normal("filter", count))
            gains = gains * turned / (turned.square() @ power).sqrt()[:, None]
        return gains

    def _cutout_mask(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 1, H, W]: 0 in a square around a random point of the pictures that are met, else 1."""
        n, _, height, width = images.shape
        device = self.p.device
        size = CUTOUT_SIZE * self._applies("cutout", n)
        center = torch.rand([2, n], device=device)
        ys = (torch.arange(height, device=device) + 0.5) / height
        xs = (torch.arange(width, device=device) + 0.5) / width
        inside_y = (ys[None] - center[0][:, None]).abs() < size[:, None] / 2  # [N, H]
        inside_x = (xs[None] - center[1][:, None]).abs() < size[:, None] / 2  # [N, W]
        return (~(inside_y[:, :, None] & inside_x[:, None, :])).to(images.dtype)[:, None]


def _warp_moved(images: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """warp, for those pictures alone that a transform has met: at a small p they are few."""
    moved = (inverse != torch.eye(3, device=inverse.device)).flatten(1).any(dim=1).nonzero()[:, 0]
    if len(moved) == 0:
        return images
    return images.index_copy(0, moved, warp(images[moved], inverse[moved]))


# ----------------------------------------------------------------------------
# Matrices, [N, 3, 3].


def _matrix(n: int, device: torch.device, entries: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
    result = torch.eye(3, device=device).repeat(n, 1, 1)
    for (row, column), value in entries.items():
        result[:, row, column] = value
    return result


def _scale(sx: torch.Tensor, sy: torch.Tensor) -> torch.Tensor:
    return _matrix(len(sx), sx.device, {(0, 0): sx, (1, 1): sy})


def _translate(tx: torch.Tensor, ty: torch.Tensor) -> torch.Tensor:
    return _matrix(len(tx), tx.device, {(0, 2): tx, (1, 2): ty})


def _rotate(angle: torch.Tensor) -> torch.Tensor:
    cos, sin = angle.cos(), angle.sin()
    return _matrix(len(angle), angle.device, {(0, 0): cos, (0, 1): -sin, (1, 0): sin, (1, 1): cos})


def _rotate_about_grey(angle: torch.Tensor) -> torch.Tensor:
    """Rodrigues' rotation of RGB about (1, 1, 1) / sqrt 3."""
    axis = 1 / math.sqrt(3)
    cross = torch.tensor([[0, -axis, axis], [axis, 0, -axis], [-axis, axis, 0]], device=angle.device)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    eye = torch.eye(3, device=angle.device)
    return eye * cos + cross * sin + torch.full([3, 3], 1 / 3, device=angle.device) * (1 - cos)


# ----------------------------------------------------------------------------
# The controller of p.


class AdaController:
    """Moves each spectrum's p so that the mean of sign(D(real)) stays at the target (ADA, section 3.1).

    speed_kimg: thousands of pictures in which p can move from 0 to 1. signal: 'each' follows each spectrum's own
    discriminator, the name of a spectrum has all follow that one's (ArcBiFaceGAN: 'vis').
    """

    def __init__(self, pipes: dict[str, AugmentPipe], target: float, speed_kimg: float, signal: str = "each") -> None:
        self.pipes, self.target, self.speed_kimg, self.signal = pipes, target, speed_kimg, signal
        self.sums = {name: torch.zeros([2], device=pipe.p.device) for name, pipe in pipes.items()}  # signs, logits

    def observe(self, name: str, real_logits: torch.Tensor) -> None:
        """Takes a discriminator's logits of real pictures, [N, 1]."""
        logits = real_logits.detach().float()
        self.sums[name] += torch.stack([logits.sign().sum(), logits.new_full([], logits.numel())])

    def update(self, images: int) -> None:
        """Moves every p by what `images` pictures allow, then gathers anew."""
        for total in self.sums.values():
            distributed.all_reduce_sum(total)
        for name, pipe in self.pipes.items():
            signs, count = self.sums[name if self.signal == "each" else self.signal]
            direction = torch.sign(signs / count.clamp(min=1) - self.target)
            pipe.p.copy_((pipe.p + direction * images / (self.speed_kimg * 1000)).clamp(0, 1))
        for total in self.sums.values():
            total.zero_()
