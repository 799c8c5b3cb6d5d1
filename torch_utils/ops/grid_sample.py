"""Bilinear sampling whose gradient has a gradient, which R1 through the augmentation needs.

Torch's own has one or not, by version and device, which is probed. Where it has none: sampling is linear in the
picture, so the gradient of its gradient is sampling again. The grid gets no gradient then.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F

_BILINEAR, _REFLECTION = 0, 2  # how ATen numbers the modes


def grid_sample(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """x [N, C, H, W] at grid [N, h, w, 2] (x, y in [-1, 1], -1 and 1 the centres of the outer pixels) -> [N, C, h, w].

    Beyond the outer pixels the picture is mirrored. Differentiable in x any number of times; grid is a constant.
    """
    device = "cpu" if x.is_meta else x.device.type  # meta tensors have no values to probe with
    return _native(x, grid) if native_serves(device) else _Sample.apply(x, grid)


def _native(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


@functools.cache
def native_serves(device: str) -> bool:
    """Whether torch's own sampling can be differentiated twice: tried on a tiny picture."""
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.ones([1, 1, 2, 2], device=device, requires_grad=True)
        y = _native(x, torch.zeros([1, 1, 1, 2], device=device))
        incoming = torch.ones_like(y, requires_grad=True)
        try:
            (first,) = torch.autograd.grad(y, x, incoming, create_graph=True)
            (second,) = torch.autograd.grad(first, incoming, torch.ones_like(first))
        except RuntimeError:
            return False
    return bool(torch.allclose(second, y.detach()))


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return _native(x, grid)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _SampleBackward.apply(grad, grid, ctx.shape), None


class _SampleBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: torch.Tensor, grid: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        ctx.save_for_backward(grid)
        x = torch.zeros(shape, dtype=grad.dtype, device=grad.device)  # only its shape is read
        result, _ = torch.ops.aten.grid_sampler_2d_backward(
            grad.contiguous(), x, grid, _BILINEAR, _REFLECTION, True, [True, False]
        )
        return result

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(grad, grid), None, None
