"""Convolution whose input channels are scaled by a style (Karras et al. 2020, section 2.2)."""

import torch

from torch_utils.ops.bias_act import bias_act
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
    b: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> torch.Tensor:
    """x [N, I, H, W], weight [O, I, k, k], styles [N, I] -> [N, O, H * up, W * up].

    Equals a convolution with weight * styles for each sample, scaled so that each output channel keeps unit variance
    (demodulate), then noise, bias and activation as in bias_act. Here the activations are scaled before and after one
    convolution that the whole batch shares, which is the same sum in another order, needs no weights of each sample's
    own, and leaves the second scaling to bias_act's single pass.
    """
    if demodulate and x.dtype == torch.float16:
        weight, styles = bounded(weight, styles)
    scale = demodulation(weight, styles) if demodulate else None
    x = x * styles.to(x.dtype)[:, :, None, None]
    x = conv2d_resample(x, weight.to(x.dtype), f=f, up=up, padding=padding, flip_weight=flip_weight)
    return bias_act(x, b, act=act, gain=gain, clamp=clamp, scale=scale, noise=noise)


def demodulation(weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """1 / length of each output channel's modulated weights: [O, I, k, k], [N, I] -> [N, O]. Equation 3, eps 1e-8."""
    energy = weight.square().sum(dim=[2, 3])  # [O, I]
    return (styles.square() @ energy.t() + 1e-8).rsqrt()


def bounded(weight: torch.Tensor, styles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and styles scaled so that sums of their products stay within float16's range; demodulation undoes it."""
    fan_in = weight[0].numel()
    weight = weight / (weight.abs().amax(dim=[1, 2, 3], keepdim=True) * fan_in**0.5)
    return weight, styles / styles.abs().amax(dim=1, keepdim=True)
