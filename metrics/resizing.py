"""How pictures are brought to an image network's size: protocols by name, because figures differ with them more than
between good generators (Parmar et al. 2022; PAIN_POINTS row 10).

    own           as the network of the public figures was fed: Inception by the bilinear filter of TensorFlow 1, which
                  is a part of its graph and of StyleGAN2-ADA's file, VGG16 by the antialiased one
    clean         bicubic with antialias, in float, as clean-fid has Pillow do it
    pytorch-fid   Inception only, as that program does: bilinear without antialias, and other grey levels
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from metrics import inception, vgg_lpips
from metrics.choices import CLEAN, OWN, PYTORCH_FID

Filter = Callable[..., torch.Tensor]  # (images, side=)


class Resize(NamedTuple):
    """name: for records and cache keys. resize: float32 [N, C, H, W] in 0 to 255 -> [N, C, S, S] in 0 to 255.
    normalise: -> what the network wants of it."""

    name: str
    resize: Callable[[torch.Tensor], torch.Tensor]
    normalise: Callable[[torch.Tensor], torch.Tensor]

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 or float [N, 1 or 3, H, W] in 0 to 255 -> float32 [N, 3, S, S]; grey is repeated."""
        return self.normalise(coloured(self.resize(images.to(torch.float32))))


def coloured(images: torch.Tensor) -> torch.Tensor:
    """Grey pictures [N, 1, H, W] repeated to three channels, others as they are."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


# ----------------------------------------------------------------------------
# Filters: float32 [N, C, H, W] -> [N, C, side, side].


def bicubic(images: torch.Tensor, side: int) -> torch.Tensor:
    """Equal to Pillow's BICUBIC in mode F, whose weights are float64 too; the cubic overshoots at edges."""
    size = (side, side)
    if images.shape[2:] == size:
        return images
    found = F.interpolate(images.double(), size, mode="bicubic", antialias=True, align_corners=False)
    return found.to(torch.float32).clamp_(0, 255)


def bilinear(images: torch.Tensor, side: int, antialias: bool) -> torch.Tensor:
    """Between the centres of pixels; with antialias the filter widens where a picture shrinks."""
    return F.interpolate(images, (side, side), mode="bilinear", antialias=antialias, align_corners=False)


def bilinear_tensorflow(images: torch.Tensor, side: int) -> torch.Tensor:
    """Pixel i of the result lies at pixel i H / S of the picture: the first on the first; the last pixel goes on."""
    for dim in (3, 2):
        length = images.shape[dim]
        places = torch.arange(side, dtype=torch.float32, device=images.device) * (length / side)
        before = places.long().clamp(max=length - 1)
        after = (before + 1).clamp(max=length - 1)
        share = (places - before).view(-1, *[1] * (3 - dim))  # along that dimension
        images = images.index_select(dim, before).lerp(images.index_select(dim, after), share)
    return images


# ----------------------------------------------------------------------------
# Protocols.


def for_inception(protocol: str) -> Resize:
    """What Inception sees. Its graph takes 128 from grey levels and divides by 128, pytorch-fid does so with 127.5."""
    half, side = 127.5 if protocol == PYTORCH_FID else 128, inception.SIDE
    filters: dict[str, tuple[str, Filter]] = {
        OWN: ("bilinear-tf1", bilinear_tensorflow),
        CLEAN: ("bicubic-antialias", bicubic),
        PYTORCH_FID: ("bilinear", partial(bilinear, antialias=False)),
    }
    name, resize = filters[protocol]
    return Resize(f"{name}-{side}-minus-{half}", partial(resize, side=side), lambda images: images / half - 1)


def for_vgg(protocol: str) -> Resize:
    """What VGG16's features are taken of; pytorch-fid knows none, and its protocol is `own` here."""
    smooth: tuple[str, Filter] = "bilinear-antialias", partial(bilinear, antialias=True)
    name, resize = ("bicubic-antialias", bicubic) if protocol == CLEAN else smooth
    side = vgg_lpips.SIDE
    return Resize(f"{name}-{side}-imagenet", partial(resize, side=side), vgg_lpips.normalise)
