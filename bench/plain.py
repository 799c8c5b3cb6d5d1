"""The plain formulation that the benchmarks compare with, over the very weights of our networks.

The definition as the papers write it and as public code runs it on a CPU: each sample's own modulated weights in a
grouped convolution, NCHW, a pass over memory for every pointwise step, FIR filters as grouped convolutions whose
derivatives are autograd's own, the whole batch warped by the augmentation, a head for each spectrum on its own.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from torch_utils.ops.grid_sample import grid_sample
from training.augment import AugmentPipe
from training.augment_geometry import SYM6, fine_grid
from training.choices import BLIT, GEOMETRY
from training.discriminator import Discriminator, minibatch_std
from training.generator import Generator, SynthesisBlock, SynthesisLayer, ToSpectrum
from training.layers import Conv2d
from training.trainer import Trainer

Images = dict[str, torch.Tensor]


# ----------------------------------------------------------------------------
# Ops.


def upfirdn2d(
    x: torch.Tensor, f: torch.Tensor, up: int = 1, down: int = 1, padding: Sequence[int] = (0, 0, 0, 0), gain: float = 1
) -> torch.Tensor:
    """As torch_utils.ops.upfirdn2d, under autograd: zeros by reshaping, padding, one convolution with a group each."""
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height, 1, width, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).reshape(n, channels, height * up, width * up)
    x = F.pad(x, list(padding))
    weight = (f * gain).flip([0, 1])[None, None].repeat(channels, 1, 1, 1)
    return F.conv2d(x, weight, groups=channels)[:, :, ::down, ::down]


def bias_act(x: torch.Tensor, b: torch.Tensor, act: str, gain: float = 1) -> torch.Tensor:
    """Bias, activation, gain: one pass each."""
    x = x + b.reshape(1, -1, 1, 1)
    if act == "lrelu":
        x = F.leaky_relu(x, 0.2) * math.sqrt(2)
    return x * gain if gain != 1 else x


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    f: torch.Tensor,
    up: int,
    padding: int,
    demodulate: bool = True,
) -> torch.Tensor:
    """Weights of each sample's own (Karras et al. 2020, equations 1 to 3), the batch as groups of one convolution."""
    n = len(x)
    out_channels, in_channels, size, _ = weight.shape
    w = weight[None] * styles.reshape(n, 1, -1, 1, 1)  # [N, O, I, k, k]
    if demodulate:
        w = w * (w.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, n * in_channels, *x.shape[2:])
    if up == 1:
        x = F.conv2d(x, w.reshape(n * out_channels, in_channels, size, size), padding=padding, groups=n)
    else:
        transposed = w.transpose(1, 2).reshape(n * in_channels, out_channels, size, size)
        x = F.conv_transpose2d(x, transposed, stride=up, groups=n)
        x = upfirdn2d(x, f, padding=[1, 1, 1, 1], gain=up**2)
    return x.reshape(n, out_channels, *x.shape[2:])


# ----------------------------------------------------------------------------
# Networks.


class PlainGenerator:
    """Draws what `generator` draws."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.mapping = generator, generator.mapping

    def synthesis(self, ws: torch.Tensor, noise_mode: str = "const") -> Images:
        """ws [N, num_ws, w_dim] -> {spectrum: [N, C, H, W]}."""
        network = self.generator.synthesis
        x, images, first = None, None, 0
        for res in network.resolutions:
            block: SynthesisBlock = getattr(network, f"b{res}")
            layer_ws = iter(ws[:, first : first + block.num_conv + 1].unbind(dim=1))
            if x is None:
                x = block.const[None].repeat(len(ws), 1, 1, 1)
            else:
                x = _layer(block.conv0, x, next(layer_ws), noise_mode)
            x = _layer(block.conv1, x, next(layer_ws), noise_mode)
            w = next(layer_ws)
            drawn = {name: _head(head, x, w) for name, head in block.heads.items()}  # type: ignore[arg-type]
            if images is not None:
                f = block.resample_filter
                drawn = {k: upfirdn2d(images[k], f, up=2, padding=[2, 1, 2, 1], gain=4) + drawn[k] for k in drawn}
            images = drawn
            first += block.num_conv
        assert images is not None
        return images


def _layer(layer: SynthesisLayer, x: torch.Tensor, w: torch.Tensor, noise_mode: str) -> torch.Tensor:
    x = modulated_conv2d(x, layer.weight, layer.affine(w), layer.resample_filter, layer.up, padding=1)
    if noise_mode == "random":
        x = x + torch.randn([len(x), 1, layer.resolution, layer.resolution]) * layer.noise_strength
    elif noise_mode == "const":
        x = x + layer.noise_const * layer.noise_strength
    return bias_act(x, layer.bias, "lrelu")


def _head(head: ToSpectrum, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    styles = head.affine(w) * head.weight_gain
    return bias_act(modulated_conv2d(x, head.weight, styles, head.weight, 1, 0, demodulate=False), head.bias, "linear")


class PlainDiscriminator:
    """Judges as `discriminator` does."""

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator

    def __call__(self, images: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """images [N, C, H, W], c [N, c_dim] -> logits [N, 1]."""
        network = self.discriminator
        x = images
        for res in network.resolutions:
            block = getattr(network, f"b{res}")
            if block.reads_picture:
                x = _conv(block.fromrgb, x)
            if block.residual:
                half = math.sqrt(0.5)
                x = _conv(block.skip, x, half) + _conv(block.conv1, _conv(block.conv0, x), half)
            else:
                x = _conv(block.conv1, _conv(block.conv0, x))
        last = network.b4
        x = _conv(last.conv, minibatch_std(x, last.mbstd_group))
        x = last.out(last.fc(x.flatten(1)))
        if network.c_dim:
            cmap = network.mapping(None, c)
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(cmap.shape[1])
        return x


def _conv(layer: Conv2d, x: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    weight = layer.weight * layer.weight_gain
    if layer.down == 1:
        x = F.conv2d(x, weight, padding=layer.padding)
    elif layer.padding == 0:
        x = F.conv2d(upfirdn2d(x, layer.resample_filter, down=2, padding=[1, 1, 1, 1]), weight)
    else:
        x = F.conv2d(upfirdn2d(x, layer.resample_filter, padding=[2, 2, 2, 2]), weight, stride=2)
    return bias_act(x, layer.bias, layer.activation, gain) if layer.bias is not None else x * gain


class PlainPipe:
    """Augments as `pipe` does, drawing the same transforms; all pictures are warped, by FIR filters."""

    def __init__(self, pipe: AugmentPipe) -> None:
        self.pipe = pipe

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> the same shape."""
        assert self.pipe.transforms & {*BLIT, *GEOMETRY}, "the plain pipeline knows bg and bgc alone"
        return self.pipe._recolor(warp(images, self.pipe._inverse_geometry(images)))


def warp(images: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """training.augment_geometry.warp by upsampling, sampling and downsampling with FIR filters."""
    height, width = images.shape[2:]
    margin_y, margin_x, taps = height // 2, width // 2, len(SYM6)
    line = images.new_tensor(SYM6) * math.sqrt(2)
    x = F.pad(images, [margin_x + taps, margin_x + taps, margin_y + taps, margin_y + taps], mode="reflect")
    x = _upsample_line(_upsample_line(x, line, 3), line, 2)
    fine_h, fine_w = 2 * (height + 2 * margin_y) + taps - 2, 2 * (width + 2 * margin_x) + taps - 2
    x = x[:, :, 2 * taps : 2 * taps + fine_h, 2 * taps : 2 * taps + fine_w]
    x = grid_sample(x, fine_grid(inverse, height, width, (margin_y, margin_x), (fine_h, fine_w)))
    line = line.flip(0) / 2
    return upfirdn2d(upfirdn2d(x, line[None, :])[:, :, :, ::2], line[:, None])[:, :, ::2]


def _upsample_line(x: torch.Tensor, line: torch.Tensor, axis: int) -> torch.Tensor:
    """Zeros between the pixels along an axis, then the filter along it, from the first pixel on."""
    spread = torch.stack([x, torch.zeros_like(x)], dim=axis + 1).flatten(axis, axis + 1)
    lead = len(line) - 1
    if axis == 3:
        return upfirdn2d(spread, line[None, :], padding=[lead, 0, 0, 0])
    return upfirdn2d(spread, line[:, None], padding=[0, 0, lead, 0])


def make_plain(trainer: Trainer) -> None:
    """Turns a trainer into one of the plain formulation: NCHW weights, plain networks, plain augmentation."""
    for module in (trainer.generator, *trainer.discriminators.values()):
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    judges: Any = {name: PlainDiscriminator(network) for name, network in trainer.discriminators.items()}
    pipes: Any = {name: PlainPipe(pipe) for name, pipe in trainer.pipes.items()}
    trainer.loss._networks = (PlainGenerator(trainer.generator), judges, pipes)  # type: ignore[assignment]
