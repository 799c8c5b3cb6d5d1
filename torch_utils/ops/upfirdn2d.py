"""Upsample, filter, downsample: the resampling of StyleGAN2 (Karras et al. 2020, appendix B)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from torch_utils.ops.kernels import current_stream, kernels_for

Padding = Sequence[int]  # [left, right, top, bottom], counted after upsampling; negative crops


def setup_filter(taps: Sequence[float]) -> torch.Tensor:
    """Taps of a separable filter -> float32 [taps, taps], summing to one."""
    total = sum(taps) ** 2
    # Without tensors: on the meta device their arithmetic would import PyTorch's compiler, seconds for nothing.
    return torch.tensor([[a * b / total for b in taps] for a in taps], dtype=torch.float32)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: int = 1,
    down: int = 1,
    padding: Padding = (0, 0, 0, 0),
    flip_filter: bool = False,
    gain: float = 1.0,
) -> torch.Tensor:
    """Puts up - 1 zeros behind each pixel, pads, convolves every channel with f, keeps each down-th pixel.

    x [N, C, H, W] -> [N, C, (H * up + top + bottom - fh) // down + 1, ...]. f [fh, fw]; None is the identity.
    flip_filter: True correlates instead. gain multiplies the result.
    """
    if f is None:
        f = torch.ones([1, 1], device=x.device)
    return _Upfirdn2d.apply(x, f * gain if gain != 1 else f, up, down, tuple(padding), flip_filter)


class _Upfirdn2d(torch.autograd.Function):
    """The operation is linear in x, and its transpose is the same operation with up and down exchanged.

    Saying so spares autograd the gradient of a constant filter, which in the second derivative costs a convolution
    for each channel.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: tuple[int, ...], flip_filter: bool
    ) -> torch.Tensor:
        y = _upfirdn2d(x, f, up, down, padding, flip_filter)
        left, _, top, _ = padding
        ctx.save_for_backward(f)
        ctx.transpose = (
            down,
            up,
            (
                f.shape[1] - left - 1,
                x.shape[3] * up - y.shape[3] * down + left - up + 1,
                f.shape[0] - top - 1,
                x.shape[2] * up - y.shape[2] * down + top - up + 1,
            ),
            not flip_filter,
        )
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (f,) = ctx.saved_tensors
        return _Upfirdn2d.apply(grad, f, *ctx.transpose), None, None, None, None, None


def _upfirdn2d(
    x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: tuple[int, ...], flip_filter: bool
) -> torch.Tensor:
    if (kernels := kernels_for(x)) is not None:
        return kernels.upfirdn2d(x, f, up, down, padding, flip_filter, current_stream(x))
    f = (f.flip([0, 1]) if flip_filter else f).to(x.dtype)
    if up > 1:
        return _spread(x, f, up, padding)[:, :, ::down, ::down]
    left, right, top, bottom = padding
    within = [top, left]  # what the convolution itself can pad spares a copy
    if left != right or top != bottom or min(padding) < 0:
        x, within = _pad(x, padding), [0, 0]
    return F.conv2d(x, _depthwise(f.flip([0, 1]), x), stride=down, padding=within, groups=x.shape[1])


def _spread(x: torch.Tensor, f: torch.Tensor, up: int, padding: tuple[int, ...]) -> torch.Tensor:
    """With down = 1: zeros between pixels and then f are a transposed convolution, cut to what the padding leaves."""
    left, right, top, bottom = padding
    across, along = f.shape[1] - 1, f.shape[0] - 1
    cuts = [across - left, across - right - up + 1, along - top, along - bottom - up + 1]
    inside = max(min(cuts), 0)  # what the convolution itself can cut spares a copy
    y = F.conv_transpose2d(x, _depthwise(f, x), stride=up, padding=inside, groups=x.shape[1])
    return _pad(y, [inside - cut for cut in cuts])


def _pad(x: torch.Tensor, padding: Padding) -> torch.Tensor:
    """Zeros around a picture; negative numbers cut, after the zeros have come: a cut may take more than there was."""
    for sides in ([max(side, 0) for side in padding], [min(side, 0) for side in padding]):
        x = F.pad(x, sides) if any(sides) else x
    return x


def _depthwise(f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return f[None, None].expand(x.shape[1], 1, *f.shape)  # [C, 1, fh, fw]


def resample_padding(f: torch.Tensor, up: int = 1, down: int = 1, padding: int = 0) -> list[int]:
    """[left, right, top, bottom] that keep pixel centres in place when resampling by up or down with f."""
    sides = []
    for taps in (f.shape[1], f.shape[0]):
        before, after = padding, padding
        if up > 1:
            before, after = before + (taps + up - 1) // 2, after + (taps - up) // 2
        if down > 1:
            before, after = before + (taps - down + 1) // 2, after + (taps - down) // 2
        sides += [before, after]
    return sides


def upsample2d(x: torch.Tensor, f: torch.Tensor, up: int = 2) -> torch.Tensor:
    """[N, C, H, W] -> [N, C, H * up, W * up], brightness kept."""
    return upfirdn2d(x, f, up=up, padding=resample_padding(f, up=up), gain=up**2)


def downsample2d(x: torch.Tensor, f: torch.Tensor, down: int = 2) -> torch.Tensor:
    """[N, C, H, W] -> [N, C, H // down, W // down], brightness kept."""
    return upfirdn2d(x, f, down=down, padding=resample_padding(f, down=down))


def filter2d(x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Convolves every channel with f, size kept: [N, C, H, W] -> [N, C, H, W]."""
    left, right = f.shape[1] // 2, (f.shape[1] - 1) // 2
    top, bottom = f.shape[0] // 2, (f.shape[0] - 1) // 2
    return upfirdn2d(x, f, padding=[left, right, top, bottom])
