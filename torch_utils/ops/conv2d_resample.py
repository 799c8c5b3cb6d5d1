"""Convolution with FIR up- or downsampling around it, never at a higher resolution than needed."""

import torch
import torch.nn.functional as F

from torch_utils.ops.upfirdn2d import resample_padding, upfirdn2d


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    flip_weight: bool = True,
) -> torch.Tensor:
    """Upsamples x by `up` with f, convolves with w, downsamples by `down` with f; only one of up, down exceeds 1.

    x [N, I, H, W], w [O, I, k, k] -> [N, O, H * up / down, W * up / down] where padding = k // 2.
    flip_weight: True correlates (as F.conv2d does), False convolves.
    """
    if up > 1 and down > 1:
        raise ValueError("either up or down may exceed 1")
    if up == 1 and down == 1:
        if w.shape[1:] == (1, 1, 1):  # an outer product; as a convolution it took 30 times as long on a CPU
            return (x.permute(0, 2, 3, 1) * w[:, 0, 0, 0]).permute(0, 3, 1, 2)  # [N, O, H, W], channels_last
        return F.conv2d(x, w if flip_weight else w.flip([2, 3]), padding=padding)
    if f is None:
        raise ValueError("resampling needs a filter f")
    pads = resample_padding(f, up=up, down=down, padding=padding)
    return _conv_up(x, w, f, up, pads, flip_weight) if up > 1 else _conv_down(x, w, f, down, pads, flip_weight)


def _conv_up(
    x: torch.Tensor, w: torch.Tensor, f: torch.Tensor, up: int, pads: list[int], flip_weight: bool
) -> torch.Tensor:
    """Zeros between pixels, then w, then f: the filters commute, and w with the zeros is a transposed convolution."""
    size = w.shape[2]
    if size == 1:  # a 1x1 layer costs least before there are more pixels
        return upfirdn2d(F.conv2d(x, w), f, up=up, padding=pads, gain=up**2)
    weight = (w.flip([2, 3]) if flip_weight else w).transpose(0, 1)  # [I, O, k, k]
    # A transposed convolution pads by k - 1 on each side, and leaves out the up - 1 zeros behind the last pixel.
    left, right, top, bottom = (
        pad - (size - 1) if leading else pad - (size - up) for pad, leading in zip(pads, (1, 0, 1, 0), strict=True)
    )
    cut = max(min(-left, -right, -top, -bottom), 0)
    x = F.conv_transpose2d(x, weight, stride=up, padding=cut)
    return upfirdn2d(x, f, padding=[left + cut, right + cut, top + cut, bottom + cut], gain=up**2)


def _conv_down(
    x: torch.Tensor, w: torch.Tensor, f: torch.Tensor, down: int, pads: list[int], flip_weight: bool
) -> torch.Tensor:
    """f first, then w at every down-th pixel; a 1x1 layer comes after the pixels have gone."""
    weight = w if flip_weight else w.flip([2, 3])
    if w.shape[2] == 1:
        return F.conv2d(upfirdn2d(x, f, down=down, padding=pads), weight)
    return F.conv2d(upfirdn2d(x, f, padding=pads), weight, stride=down)
