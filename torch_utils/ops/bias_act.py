"""What surrounds a convolution in one op: scale, noise, bias, activation, gain and clamp.

The derivative of leaky ReLU is known from the sign of its result, and the op is piecewise linear, so masking a gradient
by the result serves the first and the second derivative alike.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

from torch_utils.ops.kernels import current_stream, kernels_for

LRELU_SLOPE = 0.2
DEFAULT_GAIN = {"linear": 1.0, "lrelu": math.sqrt(2)}
Optional = torch.Tensor | None


def bias_act(
    x: torch.Tensor,
    b: Optional = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
    scale: Optional = None,
    noise: Optional = None,
) -> torch.Tensor:
    """clamp(act(x * scale + noise + b) * gain): x [N, C, ...], b [C], scale [N, C], noise [N or 1, 1, ...] -> like x.

    act: 'linear' or 'lrelu' (slope 0.2). gain: above 0; None means the activation's own (1, sqrt 2), which keeps the
    variance. clamp: limits to [-clamp, clamp]; None means no limit. Differentiable any number of times.
    """
    if act not in DEFAULT_GAIN:
        raise ValueError(f"act {act!r} is not one of {sorted(DEFAULT_GAIN)}")
    gain = DEFAULT_GAIN[act] if gain is None else float(gain)
    if gain <= 0:
        raise ValueError(f"gain {gain} is not above 0")
    return _BiasAct.apply(x, b, scale, noise, act, gain, clamp)


def reference(
    x: torch.Tensor, b: Optional, scale: Optional, noise: Optional, act: str, gain: float, clamp: float | None
) -> torch.Tensor:
    """The definition, step by step; what the faster formulations are tested against."""
    if scale is not None:
        x = x * _channels(scale, x)
    if noise is not None:
        x = x + noise.to(x.dtype)
    if b is not None:
        x = x + _channels(b[None], x)
    if act == "lrelu":
        x = F.leaky_relu(x, LRELU_SLOPE)
    x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


class _BiasAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        b: Optional,
        scale: Optional,
        noise: Optional,
        act: str,
        gain: float,
        clamp: float | None,
    ) -> torch.Tensor:
        y = _forward(x, b, scale, noise, act, gain, clamp)
        ctx.settings = (act, gain, clamp)
        ctx.dtypes = [None if given is None else given.dtype for given in (b, scale, noise)]
        ctx.noise_shape = None if noise is None else noise.shape
        ctx.save_for_backward(y, x if scale is not None and ctx.needs_input_grad[2] else None, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        y, x, scale = ctx.saved_tensors
        for_x, for_b, for_scale, for_noise = ctx.needs_input_grad[:4]
        grad = _Masked.apply(grad, y, *ctx.settings)  # with respect to x * scale + noise + b
        pixels = list(range(2, grad.ndim))
        d_x = d_b = d_scale = d_noise = None
        if for_x:
            d_x = grad if scale is None else grad * _channels(scale, grad)
        if for_b:
            d_b = grad.sum(dim=[0, *pixels], dtype=ctx.dtypes[0])
        if for_scale:
            assert x is not None
            product = grad * x
            d_scale = product.sum(dim=pixels, dtype=ctx.dtypes[1]) if pixels else product.to(ctx.dtypes[1])
        if for_noise:
            over = [1] if ctx.noise_shape[0] == len(grad) else [0, 1]
            d_noise = grad.sum(dim=over, keepdim=True, dtype=ctx.dtypes[2])
        return d_x, d_b, d_scale, d_noise, None, None, None


class _Masked(torch.autograd.Function):
    """A gradient passed back through activation, gain and clamp; linear in the gradient, so its own derivative."""

    @staticmethod
    def forward(
        ctx: Any, grad: torch.Tensor, y: torch.Tensor, act: str, gain: float, clamp: float | None
    ) -> torch.Tensor:
        ctx.save_for_backward(y)
        ctx.settings = (act, gain, clamp)
        return _masked(grad, y, act, gain, clamp)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return _Masked.apply(grad, y, *ctx.settings), None, None, None, None


def _forward(
    x: torch.Tensor, b: Optional, scale: Optional, noise: Optional, act: str, gain: float, clamp: float | None
) -> torch.Tensor:
    """reference() in as few passes over memory as there can be: the gain, above 0, moves into the small factors."""
    if (kernels := kernels_for(x)) is not None:
        limit = -1.0 if clamp is None else clamp
        return kernels.bias_act(x, b, scale, noise, act, gain, limit, current_stream(x))
    factor = gain if scale is None else _channels(scale * gain, x)
    y = x * factor if b is None else torch.addcmul(_channels(b[None] * gain, x), x, _as_tensor(factor, x))
    if noise is not None:
        y.add_((noise * gain).to(x.dtype))
    if act == "lrelu":
        F.leaky_relu_(y, LRELU_SLOPE)
    return y if clamp is None else y.clamp_(-clamp, clamp)


def _masked(grad: torch.Tensor, y: torch.Tensor, act: str, gain: float, clamp: float | None) -> torch.Tensor:
    """grad times the derivative of the result y by what went into the activation."""
    if (kernels := kernels_for(y)) is not None:
        return kernels.bias_act_grad(grad, y, act, gain, -1.0 if clamp is None else clamp, current_stream(y))
    if act == "lrelu":
        result = torch.ops.aten.leaky_relu_backward(grad, y, LRELU_SLOPE, True)
        if gain != 1:
            result.mul_(gain)
    else:
        result = grad * gain if gain != 1 or clamp is not None else grad.clone()
    return result if clamp is None else result.masked_fill_(y.abs() >= clamp, 0)


def _channels(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[N, C] -> [N, C, 1, ...] in x's dtype, to be broadcast over x."""
    return values.to(x.dtype).reshape(*values.shape, *[1] * (x.ndim - 2))


def _as_tensor(factor: float | torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return factor if isinstance(factor, torch.Tensor) else x.new_tensor(factor)
