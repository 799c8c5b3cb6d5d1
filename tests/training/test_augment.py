"""The augmentation: the identity where p is 0, each transform's law where p is 1, and two derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.stats import kstest
from torch.autograd import gradgradcheck

from training.augment import AdaController, AugmentPipe
from training.augment_filter import amplify_bands, octave_bands
from training.augment_geometry import warp
from training.choices import AUGMENT_SETS


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


def test_a_border_rings_no_more_than_naive_resampling() -> None:
    """A step turned by 30 degrees. The oracle turns it by cubic splines alone, without the wavelet around."""
    step = torch.ones(1, 1, 64, 64)
    step[:, :, :, 32:] = -1
    angle = math.radians(30)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    turned = warp(step, torch.from_numpy(turn)[None].float())
    center = np.array([31.5, 31.5])
    rows_first = turn[:2, :2].T  # scipy counts (row, column), warp (x, y)
    naive = affine_transform(
        step[0, 0].numpy(), rows_first, offset=center - rows_first @ center, order=3, mode="mirror"
    )
    assert np.corrcoef(naive.flatten(), turned.flatten())[0, 1] > 0.99
    assert turned.abs().max() - 1 < 1.1 * (np.abs(naive).max() - 1)


# ----------------------------------------------------------------------------
# Geometry at p = 1: the law of the inverse matrix (output -> input position), seen in many draws.

DRAWS = 4000


def drawn(name: str, p: float = 1.0, size: int = 64) -> torch.Tensor:
    """[DRAWS, 3, 3] of one transform alone."""
    torch.manual_seed(0)
    return AugmentPipe((name,), p)._inverse_geometry(torch.empty(DRAWS, 1, size, size))


def factors(inverse: torch.Tensor) -> torch.Tensor:
    """[DRAWS, 2]: by how much each picture was stretched, in octaves, the larger first."""
    return torch.linalg.svdvals(inverse[:, :2, :2]).flip(1).reciprocal().log2()


def test_rotate90_turns_by_each_quarter_alike() -> None:
    inverse = drawn("rotate90")
    turns = (torch.atan2(inverse[:, 1, 0], inverse[:, 0, 0]) / (math.pi / 2)).round().long() % 4
    counts = torch.bincount(turns, minlength=4)
    assert (counts - DRAWS / 4).abs().max() < 4 * math.sqrt(DRAWS * 3 / 16)
    assert torch.allclose(inverse[:, :2, :2].abs().sum(dim=1), torch.ones(DRAWS, 2), atol=1e-5)


def test_xint_moves_by_whole_pixels_up_to_an_eighth() -> None:
    shift = drawn("xint")[:, :2, 2]
    assert torch.equal(shift, shift.round()) and shift.abs().max() == 8
    assert shift.mean().abs() < 0.3 and shift.std() == pytest.approx(16 / math.sqrt(12), rel=0.03)


def test_xfrac_moves_by_an_eighth_of_the_picture_in_deviation() -> None:
    shift = drawn("xfrac")[:, :2, 2]
    assert shift.std() == pytest.approx(64 / 8, rel=0.03) and not torch.equal(shift, shift.round())


def test_scale_is_lognormal_and_the_same_along_both_axes() -> None:
    octaves = factors(drawn("scale"))
    assert torch.allclose(octaves[:, 0], octaves[:, 1], atol=1e-4)
    assert octaves[:, 0].mean().abs() < 0.02 and octaves[:, 0].std() == pytest.approx(0.2, rel=0.05)


def test_aniso_stretches_one_axis_as_it_shrinks_the_other() -> None:
    octaves = factors(drawn("aniso"))
    assert torch.allclose(octaves[:, 0], -octaves[:, 1], atol=1e-4)
    assert octaves[:, 0].square().mean().sqrt() == pytest.approx(0.2, rel=0.05)


def test_rotate_takes_every_angle_alike_and_both_turns_together_meet_with_p() -> None:
    inverse = drawn("rotate")
    angle = torch.atan2(inverse[:, 1, 0], inverse[:, 0, 0]) / (2 * math.pi) + 0.5  # uniform in [0, 1]
    assert kstest(angle.numpy(), "uniform").pvalue > 0.01
    half = drawn("rotate", p=0.5)
    met = (half[:, :2, :2] != torch.eye(2)).flatten(1).any(dim=1).float().mean()
    assert met == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / DRAWS))


# ----------------------------------------------------------------------------
# The pipeline.


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
