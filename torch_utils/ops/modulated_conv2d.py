"""Convolution whose input channels are scaled by a style (Karras et al. 2020, section 2.2)."""

import torch

from torch_utils.ops.conv2d_resample import conv2d_resample


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    padding: int = 0,
    demodulate: bool = True,
    flip_weight: bool = True,
) -> torch.Tensor:
    """x [N, I, H, W], weight [O, I, k, k], styles [N, I] -> [N, O, H * up, W * up].

    Equals a convolution with weight * styles for each sample, scaled so that each output channel keeps unit variance
    (demodulate). Here the activations are scaled before and after one convolution that the whole batch shares, which
    is the same sum in another order and needs no weights of each sample's own.
    """
    x = x * styles.to(x.dtype)[:, :, None, None]
    x = conv2d_resample(x, weight.to(x.dtype), f=f, up=up, padding=padding, flip_weight=flip_weight)
    if demodulate:
        x = x * demodulation(weight, styles).to(x.dtype)[:, :, None, None]
    return x


def demodulation(weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """1 / length of each output channel's modulated weights: [O, I, k, k], [N, I] -> [N, O]. Equation 3, eps 1e-8."""
    energy = weight.square().sum(dim=[2, 3])  # [O, I]
    return (styles.square() @ energy.t() + 1e-8).rsqrt()
