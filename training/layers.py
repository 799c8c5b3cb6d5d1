"""Layers that generator and discriminators share: equalised learning rate, mapping network.

Parameter names are those of the public StyleGAN2-ADA checkpoints.
"""

import math

import torch
from torch import nn

from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import setup_filter

RESAMPLE_TAPS = (1, 3, 3, 1)


def normalize_2nd_moment(x: torch.Tensor) -> torch.Tensor:
    """[N, C] -> [N, C] with mean square 1 in each row."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class FullyConnected(nn.Module):
    """Linear layer with equalised learning rate: weights are drawn at unit variance and scaled when used."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        # In place: on the meta device the same out of place imports PyTorch's compiler, seconds for nothing.
        self.weight = nn.Parameter(torch.randn([out_features, in_features]).div_(lr_multiplier))
        self.bias = nn.Parameter(torch.zeros([out_features]).add_(bias_init / lr_multiplier)) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in_features] -> [N, out_features]."""
        bias = self.bias * self.bias_gain if self.bias is not None else None
        if self.activation == "linear" and bias is not None:
            return torch.addmm(bias.to(x.dtype), x, (self.weight * self.weight_gain).to(x.dtype).t())
        return bias_act(x @ (self.weight * self.weight_gain).to(x.dtype).t(), bias, act=self.activation)


class Conv2d(nn.Module):
    """Convolution, optionally downsampling, with equalised learning rate, bias and activation."""

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        down: int = 1,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.down, self.clamp = activation, down, clamp
        self.padding = kernel_size // 2
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        self.bias = nn.Parameter(torch.zeros([out_channels])) if bias else None
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))

    def forward(self, x: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        """[N, in, H, W] -> [N, out, H / down, W / down]; `gain` scales the output."""
        act_gain = (math.sqrt(2) if self.activation == "lrelu" else 1.0) * gain
        if self.bias is None and self.activation == "linear":  # the gain in the weights spares a pass
            weight = (self.weight * (self.weight_gain * gain)).to(x.dtype)
            return conv2d_resample(x, weight, f=self.resample_filter, down=self.down, padding=self.padding)
        weight = (self.weight * self.weight_gain).to(x.dtype)
        x = conv2d_resample(x, weight, f=self.resample_filter, down=self.down, padding=self.padding)
        clamp = self.clamp * gain if self.clamp is not None else None
        return bias_act(x, self.bias, act=self.activation, gain=act_gain, clamp=clamp)


class MappingNetwork(nn.Module):
    """Latent z and condition c -> intermediate latent w (FACTS: 8 layers of 512, learning rate times 0.01).

    z_dim or c_dim may be 0. num_ws: w is repeated for that many layers, and its running mean is kept for truncation;
    None gives [N, w_dim] and keeps no mean (the discriminators' use).
    """

    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        embed_dim = w_dim if c_dim else 0
        if c_dim:
            self.embed = FullyConnected(c_dim, embed_dim)
        widths = [z_dim + embed_dim] + [w_dim] * num_layers
        for index in range(num_layers):
            layer = FullyConnected(widths[index], widths[index + 1], activation="lrelu", lr_multiplier=lr_multiplier)
            setattr(self, f"fc{index}", layer)
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(
        self, z: torch.Tensor | None, c: torch.Tensor | None, truncation_psi: float = 1.0, update_w_avg: bool = False
    ) -> torch.Tensor:
        """z [N, z_dim], c [N, c_dim] -> ws [N, num_ws, w_dim] (or [N, w_dim] where num_ws is None).

        truncation_psi: 1 is off, 0 is the mean w. update_w_avg: moves the running mean towards this batch's.
        """
        parts = []
        if self.z_dim:
            assert z is not None and z.shape[1] == self.z_dim, "z must be [N, z_dim]"
            parts.append(normalize_2nd_moment(z.float()))
        if self.c_dim:
            assert c is not None and c.shape[1] == self.c_dim, "c must be [N, c_dim]"
            parts.append(normalize_2nd_moment(self.embed(c.float())))
        x = torch.cat(parts, dim=1)  # [N, z_dim + w_dim]
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)  # [N, w_dim]
        if self.num_ws is None:
            return x
        if update_w_avg:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if truncation_psi != 1:
            x = self.w_avg.lerp(x, truncation_psi)
        return x.unsqueeze(1).repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
