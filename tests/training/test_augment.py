"""The augmentation: the identity where p is 0, each transform's law where p is 1, and two derivatives."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradgradcheck

from training.augment import AUGMENT_SETS, AdaController, AugmentPipe
from training.augment_filter import amplify_bands, octave_bands
from training.augment_geometry import warp


def picture(size: int = 32, channels: int = 3) -> torch.Tensor:
    rows = torch.linspace(-1, 1, size)
    smooth = torch.stack([torch.sin(3 * rows + k)[:, None] * torch.cos(2 * rows - k)[None] for k in range(channels)])
    return smooth[None].repeat(4, 1, 1, 1)


def matrix(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([*rows, [0.0, 0.0, 1.0]]).repeat(4, 1, 1)


def test_the_identity_map_is_exact() -> None:
    x = torch.randn(4, 3, 32, 32)
    assert torch.allclose(warp(x, matrix([1, 0, 0], [0, 1, 0])), x, atol=1e-5)


def test_flips_turns_and_shifts_land_where_they_should() -> None:
    x = picture()
    assert torch.allclose(warp(x, matrix([-1, 0, 0], [0, 1, 0])), x.flip(3), atol=0.02)
    assert torch.allclose(warp(x, matrix([0, -1, 0], [1, 0, 0])), x.rot90(1, [2, 3]), atol=0.02)
    moved = warp(x, matrix([1, 0, 3], [0, 1, -2]))
    assert torch.allclose(moved[:, :, 2:, :-3], x[:, :, :-2, 3:], atol=1e-4)


def test_a_sharp_border_does_not_ring_more_than_bilinear_sampling_blurs() -> None:
    """A step turned by 30 degrees: the overshoot of the wavelet stays small."""
    step = torch.ones(1, 1, 64, 64)
    step[:, :, :, 32:] = -1
    angle = math.radians(30)
    turned = warp(
        step, torch.tensor([[[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]])
    )
    assert turned.abs().max() < 1.25


@pytest.mark.parametrize("channels", [1, 3])
def test_p_zero_is_the_identity(channels: int) -> None:
    x = torch.randn(4, channels, 16, 16)
    assert torch.equal(AugmentPipe(AUGMENT_SETS["bgc"], 0.0)(x), x)


def test_xflip_at_p_one_flips_half() -> None:
    torch.manual_seed(0)
    x = picture(16)[:1].repeat(400, 1, 1, 1)
    out = AugmentPipe(("xflip",), 1.0)(x)
    flipped = (out - x.flip(3)).abs().amax(dim=[1, 2, 3]) < 0.05
    kept = (out - x).abs().amax(dim=[1, 2, 3]) < 1e-3
    assert bool((flipped ^ kept).all()) and 160 < int(flipped.sum()) < 240


def test_brightness_and_contrast_have_their_deviations() -> None:
    torch.manual_seed(0)
    flat = torch.zeros(4000, 1, 2, 2)
    assert AugmentPipe(("brightness",), 1.0)(flat)[:, 0, 0, 0].std().item() == pytest.approx(0.2, rel=0.1)
    octaves = AugmentPipe(("contrast",), 1.0)(flat + 1)[:, 0, 0, 0].log2()
    assert octaves.mean().item() == pytest.approx(0, abs=0.03) and octaves.std().item() == pytest.approx(0.5, rel=0.1)


def test_hue_and_saturation_keep_grey_and_luma() -> None:
    torch.manual_seed(0)
    pipe = AugmentPipe(("hue", "saturation"), 1.0)
    grey = torch.full([8, 3, 2, 2], 0.3)
    assert torch.allclose(pipe(grey), grey, atol=1e-5)
    color = torch.randn(8, 3, 2, 2)
    assert torch.allclose(pipe(color).mean(dim=1), color.mean(dim=1), atol=1e-5)
    assert torch.equal(pipe(color[:, :1]), color[:, :1])  # one channel has neither


def test_lumaflip_mirrors_luma_and_keeps_color() -> None:
    torch.manual_seed(0)
    color = torch.randn(200, 3, 1, 1)
    out = AugmentPipe(("lumaflip",), 1.0)(color)
    flipped = (out.mean(dim=1) + color.mean(dim=1)).abs().flatten() < 1e-5
    assert 70 < int(flipped.sum()) < 130
    assert torch.allclose(out - out.mean(dim=1, keepdim=True), color - color.mean(dim=1, keepdim=True), atol=1e-5)


def test_the_pipeline_is_differentiable_twice() -> None:
    pipe = AugmentPipe(AUGMENT_SETS["bgcfnc"], 1.0).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)

    def augmented(v: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return pipe(v).pow(2)

    assert gradgradcheck(augmented, (x,))


def test_each_spectrum_follows_its_own_signal() -> None:
    def controller(signal: str) -> AdaController:
        pipes = {name: AugmentPipe(("xflip",), 0.5) for name in ("vis", "nir")}
        ada = AdaController(pipes, target=0.6, speed_kimg=1, signal=signal)
        ada.observe("vis", torch.ones(4, 1))  # mean sign 1, above the target
        ada.observe("nir", -torch.ones(4, 1))
        ada.update(images=100)
        return ada

    own, shared = controller("each"), controller("vis")
    assert [float(pipe.p) for pipe in own.pipes.values()] == pytest.approx([0.6, 0.4])
    assert [float(pipe.p) for pipe in shared.pipes.values()] == pytest.approx([0.6, 0.6])
    assert all(not sums.any() for sums in own.sums.values())


def test_the_bands_add_up_to_the_picture_and_hold_their_octaves() -> None:
    bands = octave_bands()
    assert bands.shape == (4, 43)
    delta = np.zeros(43)
    delta[21] = 1
    assert np.allclose(bands.sum(axis=0), delta) and np.allclose(bands, bands[:, ::-1])
    response = np.abs(np.fft.rfft(bands, 1024))  # at 0 ... pi
    for band, frequency in enumerate((0.03, 0.17, 0.36, 0.9)):  # of pi, inside each octave
        at = response[:, round(frequency * 512)]
        assert at.argmax() == band and at[band] > 0.6
    x = torch.randn(2, 3, 16, 16)
    assert torch.allclose(amplify_bands(x, torch.ones(2, 4)), x, atol=1e-5)


def test_filter_keeps_the_expected_power() -> None:
    torch.manual_seed(0)
    gains = AugmentPipe(("filter",), 1.0)._band_gains(2000)
    assert gains.std(dim=0).min() > 0.2
    single = gains[:, 0].log2()
    assert abs(single.median().item()) < 0.3  # the lowest band holds most of the power, so it hardly moves


def test_noise_has_its_deviation() -> None:
    torch.manual_seed(0)
    out = AugmentPipe(("noise",), 1.0)(torch.zeros(4000, 1, 4, 4))
    assert out.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.1)


def test_cutout_blanks_half_a_side() -> None:
    torch.manual_seed(0)
    out = AugmentPipe(("cutout",), 1.0)(torch.ones(400, 2, 32, 32))
    blank = (out == 0).float()
    assert set(out.unique().tolist()) == {0.0, 1.0} and torch.equal(blank[:, 0], blank[:, 1])
    sides = blank[:, 0].amax(dim=2).sum(dim=1)
    assert sides.max() <= 17 and sides.median() >= 13  # 16 rows, fewer where the square hangs over the border


@pytest.mark.parametrize("name", AUGMENT_SETS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_set_takes_any_channel_count(name: str, channels: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, channels, 16, 16)
    out = AugmentPipe(AUGMENT_SETS[name], 0.5)(x)
    assert out.shape == x.shape and bool(out.isfinite().all())
