"""VGG16 (Simonyan and Zisserman 2015) and the perceptual distance LPIPS on it (Zhang et al. 2018, version 0.1).

Parameters are named as in torchvision's vgg16-397923af.pth, those of the distance as in the lpips package's vgg.pth.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

SIDE = 224  # of the pictures whose features are taken
SMALLEST = 16  # side of pictures that have a distance
NUM_FEATURES = 4096
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels; each stage ends halved
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours in [0, 1], for both uses
SMALL = 1e-10  # against a division by zero


def normalise(images: torch.Tensor) -> torch.Tensor:
    """[N, 1 or 3, H, W] in 0 to 255 -> float32 [N, 3, H, W]."""
    mean, sd = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, SD))
    return (images.to(torch.float32) / 255 - mean) / sd  # [N, 3, H, W]


class VGG16(nn.Module):
    """Input: float32 [N, 3, H, W] as `normalise` makes it."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for stage in STAGES:
            for channels in stage:
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
                width = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        dense = [nn.Linear(width * 7 * 7, NUM_FEATURES), nn.ReLU(), nn.Dropout()]
        dense += [nn.Linear(NUM_FEATURES, NUM_FEATURES), nn.ReLU(), nn.Dropout(), nn.Linear(NUM_FEATURES, 1000)]
        self.classifier = nn.Sequential(*dense)

    def stages(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """What each stage sees in [N, 3, H, W] before it halves it: [N, 64, H, W], ..., [N, 512, H/16, W/16]."""
        for layer in list(self.features)[:-1]:
            if isinstance(layer, nn.MaxPool2d):
                yield x
            x = layer(x)
        yield x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, 224, 224] -> features [N, 4096], of the second fully connected layer after its ReLU, which
        precision and recall are taken on (Kynkaanniemi et al. 2019)."""
        return self.classifier[:5](self.features(x).flatten(1))


class Heads(nn.Module):
    """How much each channel of the five stages counts."""

    def __init__(self) -> None:
        super().__init__()
        for number, stage in enumerate(STAGES):
            # Named as behind a dropout, which nothing that only measures needs.
            head = nn.Sequential(nn.Identity(), nn.Conv2d(stage[-1], 1, 1, bias=False))
            self.add_module(f"lin{number}", nn.ModuleDict({"model": head}))

    def weights(self) -> list[torch.Tensor]:
        """[C] of each stage."""
        return [values.flatten() for values in self.state_dict().values()]


def lpips(vgg: VGG16, heads: Heads, here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Distances [N] of pictures [N, 3, H, W] to others, as `normalise` makes them (equation 1 of the paper).

    At each place of a stage the channels are brought to length one, the squared differences weighted, and their sum's
    mean over the places taken.
    """
    distance = torch.zeros(len(here), device=here.device)
    for ours, theirs, weight in zip(vgg.stages(here), vgg.stages(there), heads.weights(), strict=True):
        squared = (_of_length_one(ours) - _of_length_one(theirs)).square()  # [N, C, h, w]
        distance += torch.einsum("nchw,c->nhw", squared, weight).mean(dim=(1, 2))  # [N]
    return distance


def _of_length_one(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + SMALL)


def at_most(images: torch.Tensor, side: int = 256) -> torch.Tensor:
    """Pictures [N, C, H, W] that are a whole number of times larger are reduced by averaging squares of pixels."""
    factor = images.shape[2] // side
    return F.avg_pool2d(images, factor) if factor > 1 else images
