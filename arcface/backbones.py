"""Recognition backbones: improved ResNet (iResNet), MobileFaceNet and, in vit.py, a transformer, as ArcFace uses them.

All families carry the parameter names and shapes of the public arcface_torch checkpoints, so such a
state dict loads strictly (Deng et al., "ArcFace", section 3.1 for the iResNet block and its output layer;
Chen et al., "MobileFaceNets", table 1). The narrow variants are ours: the same blocks with fewer channels,
and with strides that follow the picture's size, so that 32x32 pictures can be trained on two CPU cores.

    images [N, 3, S, S] in [-1, 1]  ->  raw features [N, 512] (not normalised)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from arcface.choices import ARCHITECTURES, FULL_INPUT_SIZE, SMALLEST_INPUT_SIZE, Architecture
from arcface.vit import VisionTransformer

NUM_FEATURES = 512
LARGEST_MAP = 7  # narrow networks add strides until the last feature map is this small
VIT_HEADS = 8  # no shape tells how many there are


# ----------------------------------------------------------------------------
# ----------------------------------------------------------------------------
# iResNet.


class IResNetBlock(nn.Module):
    """BN - conv - BN - PReLU - conv (strided) - BN, plus the shortcut; no activation after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, eps=1e-5)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=1e-5)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, eps=1e-5)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels, eps=1e-5),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)  # [N, out, H/stride, W/stride]
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))  # [N, out, H, W]
        return self.bn3(self.conv2(y)) + shortcut  # [N, out, H/stride, W/stride]


class IResNet(nn.Module):
    """iResNet with the E output layer of ArcFace: BN - dropout - FC - BN (whose scale is fixed to 1).

    Args:
        depths: blocks in each stage.
        widths: channels of the stem and of each stage.
        strides: stride of the stem and of the first block of each stage.
        input_size: side of the square input in pixels; sizes the fully connected layer.
        dropout: probability before the fully connected layer.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        input_size: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        stem = widths[0]
        self.conv1 = nn.Conv2d(3, stem, 3, stride=strides[0], padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem, eps=1e-5)
        self.prelu = nn.PReLU(stem)
        stages = []
        for depth, width_in, width_out, stride in zip(depths, widths[:-1], widths[1:], strides[1:], strict=True):
            first = IResNetBlock(width_in, width_out, stride)
            rest = [IResNetBlock(width_out, width_out, 1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(first, *rest))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(widths[-1], eps=1e-5)
        self.dropout = nn.Dropout(dropout)
        side = map_side(input_size, strides)
        self.fc = nn.Linear(widths[-1] * side * side, NUM_FEATURES)
        self.features = nn.BatchNorm1d(NUM_FEATURES, eps=1e-5)
        nn.init.ones_(self.features.weight)
        self.features.weight.requires_grad_(False)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))  # [N, stem, S/stride, S/stride]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)  # [N, width, S/stride, S/stride]
        x = self.bn2(x)  # [N, C, s, s]
        x = self.dropout(x.flatten(1))  # [N, C*s*s]
        return self.features(self.fc(x).float())  # [N, 512]


# ----------------------------------------------------------------------------
# MobileFaceNet. Every module keeps its parts under `layers`, as the checkpoints name them.


class Chain(nn.Module):
    """Modules one after the other under the name `layers`; with `residual` their input is added to their output."""

    def __init__(self, *modules: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*modules)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


def conv_cell(
    channels_in: int,
    channels_out: int,
    kernel: int = 1,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    active: bool = True,
) -> Chain:
    """Convolution - BN - PReLU (the last when active)."""
    parts: list[nn.Module] = [
        nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride,
            padding,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(channels_out, eps=1e-5),
    ]
    if active:
        parts.append(nn.PReLU(channels_out))
    return Chain(*parts)


def bottleneck(channels_in: int, channels_out: int, expansion: int, stride: int, residual: bool) -> Chain:
    """Inverted bottleneck: 1x1 to `expansion` channels, 3x3 depthwise, 1x1 back without activation."""
    return Chain(
        conv_cell(channels_in, expansion),
        conv_cell(expansion, expansion, kernel=3, stride=stride, padding=1, groups=expansion),
        conv_cell(expansion, channels_out, active=False),
        residual=residual,
    )


def residual_stage(channels: int, expansion: int, depth: int) -> Chain:
    return Chain(*[bottleneck(channels, channels, expansion, 1, residual=True) for _ in range(depth)])


class MobileFaceNet(nn.Module):
    """MobileFaceNet with a global depthwise convolution (GDC) as its output layer.

    Args:
        depths: the 1 of the second layer (a plain grouped convolution) and the blocks of stages 2 to 4.
        widths: stem, stage 2, stage 3, stage 4, expansion of stage 2, of stages 3 and 4, of the last
            strided bottleneck, channels of the last map.
        strides: stride of the stem and of the three strided bottlenecks.
        input_size: side of the square input in pixels; sizes the kernel of the GDC.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        input_size: int,
    ) -> None:
        super().__init__()
        stem, width2, width3, width4, expand2, expand3, expand4, last = widths
        self.layers = nn.ModuleList(
            [
                conv_cell(3, stem, kernel=3, stride=strides[0], padding=1),
                conv_cell(stem, stem, kernel=3, padding=1, groups=min(64, stem)),
                bottleneck(stem, width2, expand2, strides[1], residual=False),
                residual_stage(width2, expand2, depths[1]),
                bottleneck(width2, width3, expand3, strides[2], residual=False),
                residual_stage(width3, expand3, depths[2]),
                bottleneck(width3, width4, expand4, strides[3], residual=False),
                residual_stage(width4, expand3, depths[3]),
            ]
        )
        self.conv_sep = conv_cell(width4, last)
        side = map_side(input_size, strides)
        self.features = Chain(
            conv_cell(last, last, kernel=side, groups=last, active=False),
            nn.Flatten(),
            nn.Linear(last, NUM_FEATURES, bias=False),
            nn.BatchNorm1d(NUM_FEATURES, eps=1e-5),
        )
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)  # [N, width, S/stride, S/stride]
        x = self.conv_sep(x)  # [N, last, s, s]
        return self.features(x).float()  # [N, 512]


# ----------------------------------------------------------------------------
# From a name to a network.


def build_backbone(arch: str, input_size: int | None = None, dropout: float = 0.0) -> nn.Module:
    """Builds an untrained backbone.

    Args:
        arch: a key of ARCHITECTURES.
        input_size: side of the square input in pixels, 32 to 112; None: 112. The full architectures take
            only 112, as their checkpoints do.
        dropout: probability before the fully connected layer (iResNet only).

    Raises:
        ValueError: unknown architecture, or an input size that it does not take.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}; known are {', '.join(ARCHITECTURES)}")
    row = ARCHITECTURES[arch]
    size = FULL_INPUT_SIZE if input_size is None else input_size
    if not SMALLEST_INPUT_SIZE <= size <= FULL_INPUT_SIZE:
        raise ValueError(f"input size {size}: {SMALLEST_INPUT_SIZE} to {FULL_INPUT_SIZE} pixels are possible")
    if not row.narrow and size != FULL_INPUT_SIZE:
        raise ValueError(f"{arch} takes {FULL_INPUT_SIZE}x{FULL_INPUT_SIZE} pictures, not {size}x{size}")
    if row.family == "vit":
        return VisionTransformer(row.widths[0], row.depths[0], VIT_HEADS, size, num_features=NUM_FEATURES)
    strides = strides_of(row, size)
    if row.family == "iresnet":
        return IResNet(row.depths, row.widths, strides, size, dropout)
    return MobileFaceNet(row.depths, row.widths, strides, size)


def strides_of(row: Architecture, input_size: int) -> tuple[int, ...]:
    """Strides of the stem and of the four (iResNet) or three (MobileFaceNet) stages.

    A full architecture has a total stride of 16. A narrow one strides where it saves most, and no further than to
    a map of 7x7.
    """
    full = (1, 2, 2, 2, 2) if row.family == "iresnet" else (2, 2, 2, 2)
    if not row.narrow:
        return full
    preference = (0, 2, 3, 1, 4) if row.family == "iresnet" else (0, 1, 2, 3)  # places, the first to stride first
    strides = [1] * len(full)
    for place in preference:
        if map_side(input_size, tuple(strides)) <= LARGEST_MAP:
            break
        strides[place] = 2
    return tuple(strides)


def map_side(input_size: int, strides: tuple[int, ...]) -> int:
    """Side of the last feature map: every 3x3 convolution with padding 1 and stride 2 gives ceil(side / 2)."""
    side = input_size
    for stride in strides:
        side = -(-side // stride)
    return side


def initialise(network: nn.Module) -> None:
    """He initialisation (fan out) of the convolutions; the linear layers keep unit gain."""
    if next(network.parameters()).is_meta:  # to be filled from a file; drawing nothing there costs PyTorch seconds
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# ----------------------------------------------------------------------------
# From a state dict to a name: the shapes tell the architecture.


def recognise_architecture(state: Mapping[str, torch.Tensor]) -> str | None:
    """The architecture whose names and shapes these are, or None. The input size is not told by every one."""
    for arch, row in ARCHITECTURES.items():
        if _depths(state, row.family) == row.depths and _channels(state, row.family) == _own_channels(row):
            return arch
    return None


# Per family: what stands before the numbers of its blocks, stage by stage, and weights whose output channels tell one
# width from another.
_STAGES = {
    "iresnet": ("layer1.", "layer2.", "layer3.", "layer4."),
    "mobilefacenet": ("layers.3.layers.", "layers.5.layers.", "layers.7.layers."),
    "vit": ("blocks.",),
}
_TELLING = {
    "iresnet": ("conv1.weight", "layer1.0.conv2.weight", "layer4.0.conv2.weight", "fc.weight"),
    "mobilefacenet": ("layers.0.layers.0.weight", "layers.2.layers.2.layers.0.weight", "conv_sep.layers.0.weight"),
    "vit": ("patch_embed.proj.weight", "feature.0.weight", "feature.2.weight"),
}


def _depths(state: Mapping[str, torch.Tensor], family: str) -> tuple[int, ...]:
    counted = tuple(_children(state, prefix) for prefix in _STAGES[family])
    return (1, *counted) if family == "mobilefacenet" else counted


def _children(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    """How many numbered modules stand under `prefix`."""
    return len({name[len(prefix) :].split(".", 1)[0] for name in state if name.startswith(prefix)})


def _channels(state: Mapping[str, torch.Tensor], family: str) -> tuple[int, ...]:
    """Output channels of the telling weights, zeros where one is missing or a number without channels."""
    return tuple(int(state[name].shape[0]) if name in state and state[name].ndim else 0 for name in _TELLING[family])


def _own_channels(row: Architecture) -> tuple[int, ...]:
    if row.family == "iresnet":
        return (row.widths[0], row.widths[1], row.widths[4], NUM_FEATURES)
    if row.family == "vit":
        return (row.widths[0], row.widths[0], NUM_FEATURES)
    return (row.widths[0], row.widths[1], row.widths[7])
