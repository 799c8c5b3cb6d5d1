"""The three small networks of MTCNN (Zhang et al. 2016, "Joint face detection and alignment using multitask
cascaded convolutional networks", figure 2) with the parameter names of the weights that facenet-pytorch carries.

Input of each: float [N, 3, H, W], (x - 127.5) / 128. The weights come from a MATLAB net, which is why the
maps are flattened column first.
"""

from __future__ import annotations

import torch
from torch import nn


class ProposalNet(nn.Module):
    """P-net: fully convolutional, a 12x12 window every 2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the face probability [N, h, w] and the box regression [N, 4, h, w]."""
        x = self.pool1(self.prelu1(self.conv1(x)))  # [N, 10, ~H/2, ~W/2]
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))  # [N, 32, h, w]
        return self.conv4_1(x).softmax(dim=1)[:, 1], self.conv4_2(x)


class RefineNet(nn.Module):
    """R-net: 24x24 crops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.dense4 = nn.Linear(64 * 3 * 3, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the face probability [N] and the box regression [N, 4]."""
        x = self.pool(self.prelu1(self.conv1(x)))  # [N, 28, 11, 11]
        x = self.pool(self.prelu2(self.conv2(x)))  # [N, 48, 4, 4]
        x = self.prelu3(self.conv3(x))  # [N, 64, 3, 3]
        x = self.prelu4(self.dense4(_columns_first(x)))  # [N, 128]
        return self.dense5_1(x).softmax(dim=1)[:, 1], self.dense5_2(x)


class OutputNet(nn.Module):
    """O-net: 48x48 crops, and five points."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.pool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.pool2 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.dense5 = nn.Linear(128 * 3 * 3, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the face probability [N], the box regression [N, 4], and points [N, 10] (five x, five y)."""
        x = self.pool3(self.prelu1(self.conv1(x)))  # [N, 32, 23, 23]
        x = self.pool3(self.prelu2(self.conv2(x)))  # [N, 64, 10, 10]
        x = self.pool2(self.prelu3(self.conv3(x)))  # [N, 64, 4, 4]
        x = self.prelu4(self.conv4(x))  # [N, 128, 3, 3]
        x = self.prelu5(self.dense5(_columns_first(x)))  # [N, 256]
        return self.dense6_1(x).softmax(dim=1)[:, 1], self.dense6_2(x), self.dense6_3(x)


def _columns_first(x: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] -> [N, W * H * C], the order in which the weights of the dense layers expect the map."""
    return x.permute(0, 3, 2, 1).flatten(1)
