"""Inception-v3 (Szegedy et al. 2016) as FID knows it: the graph of 2015-12-05 that Heusel et al. took; 1008 classes.

It differs from the network that is trained today in its pooling: averages do not count the padding, and the last block
takes a maximum. Parameters are named as in the public file of pytorch-fid (pt_inception-2015-12-05-6726825d.pth), whose
numbers are those of the graph, and so of StyleGAN2-ADA's inception-2015-12-05.pt.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

SIDE = 299  # of the pictures that it sees
NUM_FEATURES, NUM_CLASSES = 2048, 1008


class Layer(NamedTuple):
    """A convolution. kernel: height and width. stride: 1 keeps the size by padding; 2 does not pad."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


AVERAGE, MAXIMUM, HALVED = "average", "maximum", "halved"  # poolings of 3x3; the last one is a maximum of stride 2
Branch = tuple["Layer | str | list[Layer]", ...]  # one after the other; a list: beside each other


# ----------------------------------------------------------------------------
# The blocks, as lists of branches (figures 5 to 7 and 10 of the paper).


def _five(pool: int) -> list[Branch]:
    return [
        (Layer("branch1x1", 64),),
        (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))),
        (
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3)),
        ),
        (AVERAGE, Layer("branch_pool", pool)),
    ]


def _to_17() -> list[Branch]:
    return [
        (Layer("branch3x3", 384, (3, 3), 2),),
        (
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3), 2),
        ),
        (HALVED,),
    ]


def _seven(width: int) -> list[Branch]:
    return [
        (Layer("branch1x1", 192),),
        (Layer("branch7x7_1", width), Layer("branch7x7_2", width, (1, 7)), Layer("branch7x7_3", 192, (7, 1))),
        (
            Layer("branch7x7dbl_1", width),
            Layer("branch7x7dbl_2", width, (7, 1)),
            Layer("branch7x7dbl_3", width, (1, 7)),
            Layer("branch7x7dbl_4", width, (7, 1)),
            Layer("branch7x7dbl_5", 192, (1, 7)),
        ),
        (AVERAGE, Layer("branch_pool", 192)),
    ]


def _to_8() -> list[Branch]:
    return [
        (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2)),
        (
            Layer("branch7x7x3_1", 192),
            Layer("branch7x7x3_2", 192, (1, 7)),
            Layer("branch7x7x3_3", 192, (7, 1)),
            Layer("branch7x7x3_4", 192, (3, 3), 2),
        ),
        (HALVED,),
    ]


def _wide(pool: str) -> list[Branch]:
    return [
        (Layer("branch1x1", 320),),
        (Layer("branch3x3_1", 384), [Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1))]),
        (
            Layer("branch3x3dbl_1", 448),
            Layer("branch3x3dbl_2", 384, (3, 3)),
            [Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))],
        ),
        (pool, Layer("branch_pool", 192)),
    ]


BLOCKS: dict[str, list[Branch]] = {
    "Mixed_5b": _five(32),
    "Mixed_5c": _five(64),
    "Mixed_5d": _five(64),
    "Mixed_6a": _to_17(),
    "Mixed_6b": _seven(128),
    "Mixed_6c": _seven(160),
    "Mixed_6d": _seven(160),
    "Mixed_6e": _seven(192),
    "Mixed_7a": _to_8(),
    "Mixed_7b": _wide(AVERAGE),
    "Mixed_7c": _wide(MAXIMUM),
}


# ----------------------------------------------------------------------------
# The network.


class _Convolution(nn.Module):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(self, before: int, layer: Layer, padded: bool = True) -> None:
        super().__init__()
        height, width = layer.kernel
        padding = (height // 2, width // 2) if padded and layer.stride == 1 else (0, 0)
        self.conv = nn.Conv2d(before, layer.channels, layer.kernel, layer.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(layer.channels, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Block(nn.Module):
    """Branches that see the same, their results one behind the other."""

    def __init__(self, before: int, branches: list[Branch]) -> None:
        super().__init__()
        self.branches, self.channels = branches, 0
        for branch in branches:
            width = before
            for step in branch:
                several = [] if isinstance(step, str) else [step] if isinstance(step, Layer) else step
                for layer in several:
                    self.add_module(layer.name, _Convolution(width, layer))
                width = sum(layer.channels for layer in several) or width
            self.channels += width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._along(branch, x) for branch in self.branches], dim=1)  # [N, channels, h, w]

    def _along(self, branch: Branch, x: torch.Tensor) -> torch.Tensor:
        for step in branch:
            if isinstance(step, str):
                x = _pool(x, step)
            elif isinstance(step, Layer):
                x = self.get_submodule(step.name)(x)
            else:
                x = torch.cat([self.get_submodule(layer.name)(x) for layer in step], dim=1)
        return x


def _pool(x: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == AVERAGE:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return F.max_pool2d(x, 3, stride=2) if kind == HALVED else F.max_pool2d(x, 3, stride=1, padding=1)


class Inception(nn.Module):
    """Input: float32 [N, 3, 299, 299] as metrics.resizing makes it, about -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, Layer("", 32, (3, 3), 2))
        self.Conv2d_2a_3x3 = _Convolution(32, Layer("", 32, (3, 3)), padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, Layer("", 64, (3, 3)))
        self.Conv2d_3b_1x1 = _Convolution(64, Layer("", 80))
        self.Conv2d_4a_3x3 = _Convolution(80, Layer("", 192, (3, 3)), padded=False)
        width = 192
        for name, branches in BLOCKS.items():
            block = _Block(width, branches)
            self.add_module(name, block)
            width = block.channels
        assert width == NUM_FEATURES, f"the blocks give {width} channels"
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, 299, 299] -> features [N, 2048], the means of the last block's channels."""
        x = self.Conv2d_1a_3x3(x)  # [N, 32, 149, 149]
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(x))  # [N, 64, 147, 147]
        x = self.Conv2d_3b_1x1(_pool(x, HALVED))  # [N, 80, 73, 73]
        x = _pool(self.Conv2d_4a_3x3(x), HALVED)  # [N, 192, 35, 35]
        for name in BLOCKS:
            x = self.get_submodule(name)(x)  # [N, 288, 35, 35], [N, 768, 17, 17], [N, 2048, 8, 8]
        return x.mean(dim=(2, 3))  # [N, 2048]

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Features [N, 2048] -> probabilities of the classes [N, 1008], without the last layer's bias.

        So the Inception score was defined: its authors multiplied the features by the graph's last matrix and left out
        what the graph adds afterwards. StyleGAN2-ADA asks its TorchScript file for the same (no_output_bias).
        """
        return F.linear(features, self.fc.weight).softmax(dim=1)
