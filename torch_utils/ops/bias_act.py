"""Bias, activation, gain and clamp in one public function."""

import math

import torch
import torch.nn.functional as F

LRELU_SLOPE = 0.2
DEFAULT_GAIN = {"linear": 1.0, "lrelu": math.sqrt(2)}


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> torch.Tensor:
    """clamp(act(x + b) * gain): x [N, C, ...], b [C].

    act: 'linear' or 'lrelu' (slope 0.2). gain: None means the activation's own (1, sqrt 2), which keeps the variance.
    clamp: limits to [-clamp, clamp]; None means no limit. Differentiable any number of times.
    """
    if act not in DEFAULT_GAIN:
        raise ValueError(f"act {act!r} is not one of {sorted(DEFAULT_GAIN)}")
    if b is not None:
        x = x + b.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    if act == "lrelu":
        x = F.leaky_relu(x, LRELU_SLOPE)
    gain = DEFAULT_GAIN[act] if gain is None else gain
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)
