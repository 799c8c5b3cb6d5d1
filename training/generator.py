"""The dual-branch generator: one latent and one identity feature give a VIS and a NIR picture of the same face.

StyleGAN2's skip architecture with two output heads at every resolution that read the same feature map with the same
w (ArcBiFaceGAN, section 3; the branch idea is BiOcularGAN's). Whatever one head shows at a pixel, the other sees the
same features there, so the pictures are aligned to the pixel.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.modulated_conv2d import modulated_conv2d
from torch_utils.ops.upfirdn2d import setup_filter, upsample2d
from torch_utils.spectra import SPECTRA
from training.layers import RESAMPLE_TAPS, FullyConnected, MappingNetwork

NOISE_MODES = ("const", "random", "none")
Images = dict[str, torch.Tensor]  # spectrum name -> [N, C, H, W]


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Width of the feature maps at a resolution: min(channel_base / resolution, channel_max)."""
    return min(channel_base // resolution, channel_max)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, upsampling first where up = 2; then noise, bias, leaky ReLU."""

    resample_filter: torch.Tensor
    noise_const: torch.Tensor

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, up: int, clamp: float | None
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.clamp = resolution, up, clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, 3, 3]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn([resolution, resolution]))
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))

    def forward(self, x: torch.Tensor, w: torch.Tensor, noise_mode: str) -> torch.Tensor:
        """x [N, in, H, W], w [N, w_dim] -> [N, out, H * up, W * up]."""
        return modulated_conv2d(
            x,
            self.weight,
            self.affine(w),  # [N, in]
            f=self.resample_filter,
            up=self.up,
            padding=1,
            flip_weight=self.up == 1,
            b=self.bias,
            noise=self._noise(len(x), noise_mode),
            act="lrelu",
            clamp=self.clamp,
        )

    def _noise(self, count: int, mode: str) -> torch.Tensor | None:
        """[N or 1, 1, H, W], or None."""
        if mode == "random":
            shape = [count, 1, self.resolution, self.resolution]
            return torch.randn(shape, device=self.noise_const.device) * self.noise_strength
        return (self.noise_const * self.noise_strength)[None, None] if mode == "const" else None


class ToSpectrum(nn.Module):
    """One output head: a modulated 1x1 convolution without demodulation, with a style of its own.

    It only holds its weights: SynthesisBlock draws all spectra at once.
    """

    def __init__(self, in_channels: int, out_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, 1, 1]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def modulated(self, w: torch.Tensor) -> torch.Tensor:
        """w [N, w_dim] -> the weights of each sample, [N, out, in]."""
        styles = self.affine(w) * self.weight_gain  # [N, in]
        return self.weight[:, :, 0, 0] * styles[:, None]


class SynthesisBlock(nn.Module):
    """One resolution: two layers (one at 4x4) and a head for each spectrum, added to its upsampled running image."""

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        spectra: Mapping[str, int],
        clamp: float | None,
    ) -> None:
        super().__init__()
        self.is_first = in_channels == 0
        self.num_conv = 1 if self.is_first else 2
        self.clamp = clamp
        self.dtype = torch.float32  # what the block computes in (precision.py)
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))
        if self.is_first:
            self.const = nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=2, clamp=clamp)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, up=1, clamp=clamp)
        self.heads = nn.ModuleDict(
            {name: ToSpectrum(out_channels, channels, w_dim) for name, channels in spectra.items()}
        )

    def forward(
        self, x: torch.Tensor | None, image: torch.Tensor | None, ws: torch.Tensor, noise_mode: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """ws [N, num_conv + 1, w_dim]; x and image are those of half the resolution, None at the first block.

        image: all spectra's channels side by side, float32 [N, C, H, W].
        """
        layer_ws = iter(ws.unbind(dim=1))
        if self.is_first:
            x = self.const.to(self.dtype).unsqueeze(0).repeat(ws.shape[0], 1, 1, 1)
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            assert x is not None
            x = self.conv0(x.to(self.dtype), next(layer_ws), noise_mode)  # [N, out, H, W]
        x = self.conv1(x, next(layer_ws), noise_mode)  # [N, out, H, W]
        drawn = self._draw(x, next(layer_ws))
        if image is not None:
            drawn = upsample2d(image, self.resample_filter) + drawn
        return x, drawn

    def _draw(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """The heads' 1x1 convolutions as one product for each sample: [N, I, H, W] -> float32 [N, C, H, W]."""
        n, _, height, width = x.shape
        heads = cast(list[ToSpectrum], list(self.heads.values()))
        weights = torch.cat([head.modulated(w) for head in heads], dim=1)  # [N, C, I]
        bias = torch.cat([head.bias for head in heads])  # [C]
        pixels = x.permute(0, 2, 3, 1).reshape(n, height * width, -1)  # [N, H * W, I]; free in channels_last
        drawn = torch.bmm(pixels, weights.to(x.dtype).transpose(1, 2))  # [N, H * W, C]
        drawn = drawn.reshape(n, height, width, -1).permute(0, 3, 1, 2)
        return bias_act(drawn, bias, clamp=self.clamp).float()


class SynthesisNetwork(nn.Module):
    """w of every layer -> the pictures of all spectra."""

    def __init__(
        self,
        w_dim: int,
        resolution: int,
        channel_base: int,
        channel_max: int,
        spectra: Mapping[str, int],
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        if resolution < 8 or resolution & (resolution - 1):
            raise ValueError(f"resolution {resolution} is not a power of two of at least 8")
        self.resolution, self.spectra = resolution, dict(spectra)
        self.resolutions = [2**level for level in range(2, int(math.log2(resolution)) + 1)]
        widths = [0] + [channels_at(res, channel_base, channel_max) for res in self.resolutions]
        self.num_ws = 0
        for index, res in enumerate(self.resolutions):
            block = SynthesisBlock(widths[index], widths[index + 1], w_dim, res, spectra, clamp)
            setattr(self, f"b{res}", block)
            self.num_ws += block.num_conv
        self.num_ws += 1  # the last heads' w

    def forward(self, ws: torch.Tensor, noise_mode: str = "const") -> Images:
        """ws [N, num_ws, w_dim] -> {spectrum: float32 [N, C, H, W]}, nominally in [-1, 1]."""
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode {noise_mode!r} is not one of {NOISE_MODES}")
        x, image, first = None, None, 0
        for res in self.resolutions:
            block = getattr(self, f"b{res}")
            # The heads of a block and the first layer of the next share one w.
            x, image = block(x, image, ws[:, first : first + block.num_conv + 1], noise_mode)
            first += block.num_conv
        assert image is not None
        return dict(zip(self.spectra, image.split(list(self.spectra.values()), dim=1), strict=True))


class Generator(nn.Module):
    """Mapping and synthesis. `init_kwargs` rebuild it; `metadata` says what its conditions are (see snapshots)."""

    def __init__(
        self,
        resolution: int,
        z_dim: int = 512,
        c_dim: int = 512,
        w_dim: int = 512,
        channel_base: int = 16384,
        channel_max: int = 512,
        mapping_layers: int = 8,
        spectra: Mapping[str, int] | None = None,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        spectra = dict(spectra or {name: spectrum.channels for name, spectrum in SPECTRA.items()})
        self.init_kwargs: dict[str, Any] = {
            "resolution": resolution,
            "z_dim": z_dim,
            "c_dim": c_dim,
            "w_dim": w_dim,
            "channel_base": channel_base,
            "channel_max": channel_max,
            "mapping_layers": mapping_layers,
            "spectra": spectra,
            "clamp": clamp,
        }
        self.metadata: dict[str, Any] = {}
        self.z_dim, self.c_dim, self.resolution, self.spectra = z_dim, c_dim, resolution, spectra
        self.synthesis = SynthesisNetwork(w_dim, resolution, channel_base, channel_max, spectra, clamp)
        self.resolutions = self.synthesis.resolutions
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.synthesis.num_ws, num_layers=mapping_layers)

    def forward(
        self, z: torch.Tensor, c: torch.Tensor, truncation_psi: float = 1.0, noise_mode: str = "const"
    ) -> Images:
        """z [N, z_dim], c [N, c_dim] -> {'vis': [N, 3, H, W], 'nir': [N, 1, H, W]}, nominally in [-1, 1]."""
        return self.synthesis(self.mapping(z, c, truncation_psi=truncation_psi), noise_mode=noise_mode)
