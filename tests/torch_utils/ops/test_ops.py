"""Every op against an independent formulation, and its derivatives against finite differences."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from scipy.signal import convolve2d
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.function import once_differentiable

from torch_utils.ops import grid_sample as module_of_grid_sample
from torch_utils.ops.bias_act import bias_act, reference
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.grid_sample import grid_sample
from torch_utils.ops.modulated_conv2d import modulated_conv2d
from torch_utils.ops.upfirdn2d import downsample2d, filter2d, resample_padding, setup_filter, upfirdn2d, upsample2d


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# ----------------------------------------------------------------------------
# bias_act.


def test_bias_act_by_hand() -> None:
    x, b = torch.tensor([[1.0, -3.0]]), torch.tensor([1.0, 1.0])
    assert torch.allclose(bias_act(x, b, act="lrelu"), torch.tensor([[2.0, -0.4]]) * math.sqrt(2))
    assert bias_act(x, b, act="linear", gain=10, clamp=15).tolist() == [[15.0, -15.0]]
    with pytest.raises(ValueError, match="gelu"):
        bias_act(x, act="gelu")


@pytest.mark.parametrize("act", ["linear", "lrelu"])
@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("noise_batch", [None, 1, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_bias_act_is_its_definition(act: str, clamp: float | None, noise_batch: int | None, scaled: bool) -> None:
    x, b = normal(2, 3, 4, 5), normal(3, seed=1)
    scale = normal(2, 3, seed=2) if scaled else None
    noise = normal(noise_batch, 1, 4, 5, seed=3) if noise_batch else None
    result = bias_act(x, b, act, 1.3, clamp, scale, noise)
    assert torch.allclose(result, reference(x, b, scale, noise, act, 1.3, clamp))
    given = [tensor.requires_grad_() for tensor in (x, b, scale, noise) if tensor is not None]

    def op(x: torch.Tensor, b: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        rest_of = iter(rest)
        return bias_act(x, b, act, 1.3, clamp, next(rest_of) if scaled else None, next(rest_of, None))

    assert gradcheck(op, given) and gradgradcheck(op, given)


# ----------------------------------------------------------------------------
# upfirdn2d.

CASES = [
    (1, 1, (1, 2, 0, 1)),
    (2, 1, (2, 1, 3, 0)),
    (1, 2, (1, 1, 1, 1)),
    (3, 2, (4, -1, -2, 5)),
    (1, 1, (-1, 3, 2, -2)),
]


def naive_upfirdn(x: np.ndarray, f: np.ndarray, up: int, down: int, padding: tuple[int, ...]) -> np.ndarray:
    """One plane, by the definition, with scipy's convolution."""
    left, right, top, bottom = padding
    spread = np.zeros([x.shape[0] * up, x.shape[1] * up])
    spread[::up, ::up] = x
    spread = np.pad(spread, [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    spread = spread[max(-top, 0) : spread.shape[0] - max(-bottom, 0), max(-left, 0) : spread.shape[1] - max(-right, 0)]
    return convolve2d(spread, f, mode="valid")[::down, ::down]


@pytest.mark.parametrize(("up", "down", "padding"), CASES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_upfirdn2d_is_its_definition(up: int, down: int, padding: tuple[int, ...], channels_last: bool) -> None:
    x, f = normal(2, 3, 7, 9), normal(4, 3, seed=1)
    given = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    expected = np.stack(
        [[naive_upfirdn(plane.numpy(), f.numpy(), up, down, padding) for plane in image] for image in x]
    )
    assert np.allclose(upfirdn2d(given, f, up, down, padding), expected)
    flipped = upfirdn2d(given, f.flip([0, 1]), up, down, padding, flip_filter=True, gain=2)
    assert np.allclose(flipped, 2 * expected)


@pytest.mark.parametrize(("up", "down", "padding"), CASES)
def test_upfirdn2d_derivatives(up: int, down: int, padding: tuple[int, ...]) -> None:
    x, f = normal(1, 2, 6, 5).requires_grad_(), normal(4, 3, seed=1)
    assert gradcheck(lambda v: upfirdn2d(v, f, up, down, padding), (x,))
    assert gradgradcheck(lambda v: upfirdn2d(v, f, up, down, padding), (x,))


def test_resampling_keeps_brightness_and_size() -> None:
    f, x = setup_filter([1, 3, 3, 1]).double(), torch.ones(1, 1, 8, 8, dtype=torch.float64)
    assert upsample2d(x, f).shape == (1, 1, 16, 16) and downsample2d(x, f).shape == (1, 1, 4, 4)
    for result in (upsample2d(x, f), downsample2d(x, f), filter2d(x, f)):
        assert torch.allclose(result[:, :, 2:-2, 2:-2], torch.ones_like(result[:, :, 2:-2, 2:-2]))


# ----------------------------------------------------------------------------
# Convolutions.


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("flip_weight", [True, False])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_conv2d_resample_is_fir_and_convolution_in_turn(size: int, flip_weight: bool, up: int, down: int) -> None:
    """Against the plain order: zeros and FIR at the higher resolution, convolution there, then every down-th pixel."""
    f = setup_filter([1, 3, 3, 1]).double()
    x, w = normal(2, 3, 8, 8), normal(4, 3, size, size, seed=1)
    pads = resample_padding(f, up, down, size // 2)
    high = upfirdn2d(x, f if up > 1 or down > 1 else None, up=up, padding=pads, gain=up**2)
    expected = F.conv2d(high, w if flip_weight else w.flip([2, 3]))[:, :, ::down, ::down]
    result = conv2d_resample(x, w, f, up, down, size // 2, flip_weight)
    assert result.shape == (2, 4, 8 * up // down, 8 * up // down)
    assert torch.allclose(result, expected)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
def test_modulated_conv2d_equals_weights_of_each_sample(demodulate: bool, up: int) -> None:
    """Against the definition: every sample is convolved with modulated, demodulated weights of its own."""
    f = setup_filter([1, 3, 3, 1]).double()
    x, weight, styles = normal(3, 4, 6, 6), normal(5, 4, 3, 3, seed=1), normal(3, 4, seed=2)
    expected = []
    for sample, style in zip(x, styles, strict=True):
        own = weight * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8).sqrt()
        expected.append(conv2d_resample(sample[None], own, f, up=up, padding=1))
    result = modulated_conv2d(x, weight, styles, f, up=up, padding=1, demodulate=demodulate)
    assert torch.allclose(result, torch.cat(expected))


# ----------------------------------------------------------------------------
# grid_sample.


@pytest.fixture(params=["native", "ours"])
def sampling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own sampling where it can be differentiated twice, and ours."""
    if request.param == "ours":
        monkeypatch.setattr(module_of_grid_sample, "native_serves", lambda device: False)
    elif not module_of_grid_sample.native_serves("cpu"):
        pytest.skip("this torch's grid_sample has no second derivative")


def test_grid_sample_is_bilinear(sampling: None) -> None:
    """And mirrors beyond the centres of the outer pixels."""
    x = normal(1, 1, 6, 7)
    points = torch.rand(1, 4, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    rows, columns = (points[0, :, :, 1] + 1) / 2 * 5, (points[0, :, :, 0] + 1) / 2 * 6
    expected = map_coordinates(x[0, 0].numpy(), [rows.numpy(), columns.numpy()], order=1, mode="mirror")
    assert np.allclose(grid_sample(x, points)[0, 0], expected)


def test_grid_sample_has_a_second_derivative(sampling: None) -> None:
    x = normal(1, 2, 5, 5).requires_grad_()
    points = normal(1, 3, 4, 2, seed=3) * 0.8
    assert gradcheck(lambda v: grid_sample(v, points), (x,))
    assert gradgradcheck(lambda v: grid_sample(v, points), (x,))


def test_grid_sample_probes_what_torch_can_do(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    probe = module_of_grid_sample.native_serves
    request.addfinalizer(probe.cache_clear)
    probe.cache_clear()
    x, points = normal(1, 1, 3, 3).requires_grad_(), normal(1, 2, 2, 2, seed=1) * 0.5
    try:
        can = gradgradcheck(lambda v: module_of_grid_sample._native(v, points), (x,))
    except RuntimeError:
        can = False
    assert probe("cpu") is can
    probe.cache_clear()
    monkeypatch.setattr(module_of_grid_sample, "_native", OnceDifferentiable.apply)
    assert probe("cpu") is False


class OnceDifferentiable(torch.autograd.Function):
    """What grid_sample of an older torch is like."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        ctx.shape = x.shape
        return x[:, :, :1, :1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad.new_ones(ctx.shape), None
