"""Shifts of rendered faces are measured as what they are, whatever the spectra's contrast; information by hand."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import mutual_info_score

from example_faces.anatomy import sample_person
from example_faces.render import render_pair
from example_faces.shots import sample_shot
from metrics.registration import displacement, gradient_correlation, grey, moved, mutual_information, reach_of
from tests.devices import META, OneDevice

FACES = 10


@cache
def faces(resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
    """VIS and NIR of different people, grey, [N, H, W] each."""
    pairs = [render_pair(sample_person(5, i), sample_shot(5, i, i % 3), resolution) for i in range(FACES)]
    vis, nir = (
        grey(torch.from_numpy(np.stack([pair[name] for pair in pairs])).permute(0, 3, 1, 2)) for name in ("vis", "nir")
    )
    return vis, nir


def shifted(pictures: torch.Tensor, down: float, right: float) -> torch.Tensor:
    """By scipy's splines of fifth order: not by what is tested."""
    moved = [ndimage.shift(picture, (down, right), order=5, mode="nearest") for picture in pictures.double().numpy()]
    return torch.from_numpy(np.stack(moved)).float().round().clamp(0, 255)


SHIFTS = [(0.0, 0.0), (0.25, 0.0), (0.0, 0.5), (1.3, 0.0), (0.0, -3.0), (-0.75, 1.0)]


@pytest.mark.parametrize("resolution", [64, 32])
@pytest.mark.parametrize(("down", "right"), SHIFTS)
def test_a_shift_is_measured_as_what_it_is(down: float, right: float, resolution: int) -> None:
    vis, nir = faces(resolution)
    found = displacement(vis, shifted(nir, down, right))
    assert found.norm(dim=1).mean().item() == pytest.approx(np.hypot(down, right), abs=0.1)
    assert found.mean(dim=0).tolist() == pytest.approx([down, right], abs=0.1)
    off = (found - torch.tensor([down, right])).norm(dim=1)
    assert off.median() < 0.1 and off.max() < (0.25 if resolution == 64 else 0.4), off


@pytest.mark.parametrize(("down", "right"), SHIFTS)
def test_neither_noise_nor_inverted_brightness_matters(down: float, right: float) -> None:
    vis, nir = faces(64)
    rng = torch.Generator().manual_seed(0)
    noisy, other = (
        picture + 5 * torch.randn(picture.shape, generator=rng) for picture in (vis, shifted(nir, down, right))
    )
    found = displacement(noisy, 255 - other)
    assert found.norm(dim=1).mean().item() == pytest.approx(np.hypot(down, right), abs=0.1)
    assert found.mean(dim=0).tolist() == pytest.approx([down, right], abs=0.1)


def test_other_people_lie_worse_on_each_other() -> None:
    vis, nir = faces(64)
    strangers = nir.roll(1, dims=0)
    assert displacement(vis, strangers).norm(dim=1).mean() > 5 * displacement(vis, nir).norm(dim=1).mean()
    assert (gradient_correlation(vis, strangers) < gradient_correlation(vis, nir) - 0.2).all()
    assert (mutual_information(vis, strangers) < mutual_information(vis, nir) - 0.02).all()


def test_what_was_shifted_agrees_less_the_further_it_was() -> None:
    vis, nir = faces(64)
    for figure in (gradient_correlation, mutual_information):
        means = [figure(vis, shifted(nir, down, 0)).mean().item() for down in (0, 0.5, 1, 2, 4)]
        assert means == sorted(means, reverse=True) and means[0] - means[2] > 0.02


def test_a_picture_on_itself_and_on_its_negative() -> None:
    vis, _ = faces(64)
    for other in (vis, 255 - vis, 40 + 0.5 * vis):
        assert displacement(vis, other).norm(dim=1).max() < 0.02
        assert mutual_information(vis, other).min() > 1.8  # classes have other edges in the negative
    assert gradient_correlation(vis, 255 - vis).numpy() == pytest.approx(1, abs=1e-5)


def test_whole_shifts_up_to_the_reach_are_found_and_nothing_hangs_on_the_batch() -> None:
    rng = np.random.default_rng(0)
    scene = torch.from_numpy(ndimage.gaussian_filter(rng.uniform(0, 2000, (3, 120, 130)), (0, 1.5, 1.5))).float()
    first = scene[:, 30:90, 30:100]
    assert reach_of(first) == 15
    for down, right in ((0, 0), (7, -5), (-11, 12)):
        second = scene[:, 30 - down : 90 - down, 30 - right : 100 - right]
        found = displacement(first, second)
        assert found.numpy() == pytest.approx(np.tile([down, right], (3, 1)), abs=0.05)
        alone = torch.cat([displacement(first[i : i + 1], second[i : i + 1]) for i in range(3)])
        assert alone.numpy() == pytest.approx(found.numpy(), abs=1e-4)


def test_moving_back_by_whole_pixels_is_exact() -> None:
    picture = torch.arange(48.0).view(1, 6, 8).square()
    back = moved(picture, torch.tensor([[1.0, -2.0]]))
    assert back[0, :5, 2:].numpy() == pytest.approx(picture[0, 1:, :6].numpy(), abs=1e-2)


def test_a_picture_without_edges_is_as_far_away_as_can_be() -> None:
    vis, _ = faces(32)
    flat = torch.full_like(vis, 90.0)
    for first, second in ((vis, flat), (flat, vis), (flat, flat)):
        assert displacement(first, second).tolist() == [[8.0, 0.0]] * FACES
        assert gradient_correlation(first, second).tolist() == [0.0] * FACES
        assert mutual_information(first, second).numpy() == pytest.approx(1, abs=1e-12)


def test_information_by_hand_and_by_scikit_learn() -> None:
    stripes = torch.tensor([[0.0, 0, 255, 255], [0, 0, 255, 255]])
    rows = torch.tensor([[10.0, 10, 10, 10], [20, 20, 20, 20]])
    half = torch.tensor([[0.0, 0, 0, 255], [0, 0, 255, 255]])
    # H(stripes) = 1 bit, H(half) = -(3/8 log 3/8 + 5/8 log 5/8); jointly (0, 0) 4/8, (1, 0) 1/8, (1, 1) 3/8.
    entropy = lambda *shares: -sum(share * np.log2(share) for share in shares)  # noqa: E731
    by_hand = (1 + entropy(3 / 8, 5 / 8)) / entropy(4 / 8, 1 / 8, 3 / 8)
    found = mutual_information(torch.stack([stripes] * 3), torch.stack([stripes, rows, half]))
    assert found.tolist() == pytest.approx([2, 1, by_hand])
    vis, nir = faces(32)
    classes = [((p - p.min()) * 16 / (p.max() - p.min())).long().clamp(max=15).flatten() for p in (vis[0], nir[0])]
    joint = np.bincount((classes[0] * 16 + classes[1]).numpy()) / classes[0].numel()
    expected = 1 + mutual_info_score(*classes) / (entropy(*joint[joint > 0]) * np.log(2))
    assert mutual_information(vis[:1], nir[:1]).item() == pytest.approx(expected)


def test_nothing_lies_on_two_devices() -> None:
    with OneDevice():
        pictures = torch.empty(3, 40, 40, device="meta")
        assert displacement(pictures, pictures).shape == (3, 2)
        assert gradient_correlation(pictures, pictures).device == META
