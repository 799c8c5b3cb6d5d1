"""A discriminator of one spectrum: residual, with minibatch statistics, conditional by projection.

Karras et al. 2020 (StyleGAN2, residual D), Karras et al. 2018 (minibatch standard deviation), Miyato and Koyama 2018
(projection). Parameter names are those of the public StyleGAN2-ADA checkpoints.
"""

import math

import torch
from torch import nn

from training.generator import channels_at
from training.layers import Conv2d, FullyConnected, MappingNetwork


class DiscriminatorBlock(nn.Module):
    """Two 3x3 layers, the second halving the resolution, beside a 1x1 skip; the first block reads the picture."""

    def __init__(
        self, image_channels: int, in_channels: int, out_channels: int, clamp: float | None, residual: bool
    ) -> None:
        super().__init__()
        if image_channels:
            self.fromrgb = Conv2d(image_channels, in_channels, 1, activation="lrelu", clamp=clamp)
        self.reads_picture = image_channels > 0
        self.residual = residual
        self.dtype = torch.float32  # what the block computes in (precision.py)
        self.conv0 = Conv2d(in_channels, in_channels, 3, activation="lrelu", clamp=clamp)
        self.conv1 = Conv2d(in_channels, out_channels, 3, activation="lrelu", down=2, clamp=clamp)
        if residual:
            self.skip = Conv2d(in_channels, out_channels, 1, bias=False, down=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, image or in, H, W] -> [N, out, H / 2, W / 2]."""
        x = x.to(self.dtype)
        if self.reads_picture:
            # A picture of one channel has no memory format of its own, so the layer's output may come in the wrong one.
            x = self.fromrgb(x).contiguous(memory_format=torch.channels_last)  # [N, in, H, W]
        if not self.residual:
            return self.conv1(self.conv0(x))
        half = math.sqrt(0.5)  # the sum of the two keeps the variance of one
        return self.skip(x, gain=half) + self.conv1(self.conv0(x), gain=half)


def minibatch_std(x: torch.Tensor, group_size: int) -> torch.Tensor:
    """Appends a channel with the mean standard deviation within groups of samples: [N, C, H, W] -> [N, C + 1, H, W].

    The groups are interleaved: samples n, n + N/g, n + 2N/g, ... form one. A batch that the group size does not
    divide takes the largest divisor of N below it.
    """
    batch, _, height, width = x.shape
    group = max(size for size in range(1, min(group_size, batch) + 1) if batch % size == 0)
    y = x.reshape(group, batch // group, -1)  # [g, N/g, C * H * W]
    y = (y - y.mean(dim=0)).square().mean(dim=0)  # [N/g, C * H * W]
    y = (y + 1e-8).sqrt().mean(dim=1)  # [N/g]
    y = y.repeat(group).reshape(batch, 1, 1, 1).expand(batch, 1, height, width)
    return torch.cat([x, y], dim=1)


class DiscriminatorEpilogue(nn.Module):
    """4x4 feature map -> a score, or a feature vector to be projected on the condition."""

    def __init__(self, channels: int, out_features: int, mbstd_group: int, clamp: float | None) -> None:
        super().__init__()
        self.mbstd_group = mbstd_group
        self.conv = Conv2d(channels + 1, channels, 3, activation="lrelu", clamp=clamp)
        self.fc = FullyConnected(channels * 16, channels, activation="lrelu")
        self.out = FullyConnected(channels, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, 4, 4] -> [N, out_features]."""
        x = self.conv(minibatch_std(x, self.mbstd_group))
        return self.out(self.fc(x.flatten(1)))


class Discriminator(nn.Module):
    """Scores pictures of one spectrum, real high. c_dim 0 makes it unconditional."""

    def __init__(
        self,
        resolution: int,
        image_channels: int,
        c_dim: int = 512,
        channel_base: int = 16384,
        channel_max: int = 512,
        mapping_layers: int = 8,
        mbstd_group: int = 4,
        residual: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.c_dim = c_dim
        self.resolutions = [2**level for level in range(int(math.log2(resolution)), 2, -1)]
        for res in self.resolutions:
            widths = (channels_at(res, channel_base, channel_max), channels_at(res // 2, channel_base, channel_max))
            block = DiscriminatorBlock(image_channels if res == resolution else 0, *widths, clamp, residual)
            setattr(self, f"b{res}", block)
        width = channels_at(4, channel_base, channel_max)
        self.b4 = DiscriminatorEpilogue(width, width if c_dim else 1, mbstd_group, clamp)
        if c_dim:
            self.mapping = MappingNetwork(0, c_dim, width, num_ws=None, num_layers=mapping_layers)

    def layers_from_picture(self) -> list[nn.Module]:
        """The convolutions above 4x4 in the order that the picture meets them, each block's skip behind its others."""
        names = ("fromrgb", "conv0", "conv1", "skip")
        blocks = [getattr(self, f"b{res}") for res in self.resolutions]
        return [getattr(block, name) for block in blocks for name in names if hasattr(block, name)]

    def forward(self, images: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """images [N, C, H, W] in [-1, 1], c [N, c_dim] -> logits [N, 1]."""
        x = images.contiguous(memory_format=torch.channels_last)
        for res in self.resolutions:
            x = getattr(self, f"b{res}")(x)
        x = self.b4(x.float())  # [N, width] or [N, 1]
        if self.c_dim:
            cmap = self.mapping(None, c)  # [N, width]
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(cmap.shape[1])  # [N, 1]
        return x
