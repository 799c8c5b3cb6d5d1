"""Augmentation: what is off changes nothing, grey stays grey, the same seed gives the same pictures."""

from dataclasses import fields

import pytest
import torch

from arcface.choices import AugmentConfig
from arcface.recognition_augment import augment

OFF = {field.name: 0.0 for field in fields(AugmentConfig)}


def pictures() -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_everything_off_changes_nothing() -> None:
    torch.testing.assert_close(augment(pictures(), AugmentConfig(**OFF), seeded()), pictures(), atol=1e-5, rtol=0)


def test_a_certain_flip_is_the_mirror_picture() -> None:
    config = AugmentConfig(**{**OFF, "flip": 1.0})
    torch.testing.assert_close(augment(pictures(), config, seeded()), pictures().flip(3), atol=1e-5, rtol=0)


def test_brightness_adds_one_number_to_a_picture() -> None:
    change = augment(pictures() / 4, AugmentConfig(**{**OFF, "brightness": 0.1}), seeded()) - pictures() / 4
    flat = change.flatten(1)
    torch.testing.assert_close(flat, flat[:, :1].expand_as(flat), atol=1e-5, rtol=0)
    assert len(flat[:, 0].unique()) == 4


def test_grey_pictures_stay_grey_and_colours_shift() -> None:
    config = AugmentConfig(noise=0.1, blur=0.5, color=0.3)
    grey = augment(pictures()[:, :1].repeat(1, 3, 1, 1), config, seeded())
    torch.testing.assert_close(grey[:, 0], grey[:, 2], atol=1e-6, rtol=0)
    colored = augment(torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 16, 16), config, seeded())
    ratio = colored[0, 0] / colored[0, 2]
    assert not torch.allclose(ratio, torch.full_like(ratio, 0.5 / 0.3), atol=1e-3)


def test_the_seed_decides() -> None:
    config = AugmentConfig(noise=0.1, blur=0.5)
    first, again, other = (augment(pictures(), config, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert first.shape == (4, 3, 16, 16) and float(first.abs().max()) <= 1


def test_processes_share_one_batch() -> None:
    """Two processes with every second picture each make what one makes of all."""
    everything = AugmentConfig(**{name: 9.0 if name == "turn" else 0.5 for name in OFF})
    whole = augment(pictures(), everything, seeded())
    for rank in (0, 1):
        part = augment(pictures()[rank::2], everything, seeded(), share=(rank, 2))
        torch.testing.assert_close(part, whole[rank::2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", [name for name in OFF if name != "flip"])
def test_each_part_changes_pictures_and_keeps_their_range(part: str) -> None:
    changed = augment(pictures(), AugmentConfig(**{**OFF, part: 1.0}), seeded())
    assert float((changed - pictures()).abs().mean()) > 0.005 and float(changed.abs().max()) <= 1


def test_a_crop_shows_a_part_of_the_picture_and_no_more() -> None:
    ramp = torch.linspace(-0.9, 0.9, 32).expand(64, 3, 32, 32)
    changed = augment(ramp, AugmentConfig(**{**OFF, "crop": 1.0}), seeded())
    slope = (changed[:, 0, 16, 24] - changed[:, 0, 16, 8]) / (ramp[0, 0, 16, 24] - ramp[0, 0, 16, 8])
    assert 0.5**0.5 - 1e-3 < float(slope.min()) < 0.75 and 0.95 < float(slope.max()) < 1 + 1e-3
    assert float(changed.max()) < 0.91 and float(changed.min()) > -0.91


def test_erasing_greys_one_rectangle_of_2_to_33_percent() -> None:
    changed = augment(torch.full((200, 3, 64, 64), 0.5), AugmentConfig(**{**OFF, "erase": 0.5}), seeded())
    erased = changed[:, 0] == 0  # [N, S, S]
    shares = erased.float().mean(dim=(1, 2))
    hit = shares[shares > 0]
    assert 70 < len(hit) < 130 and 0.01 < float(hit.min()) < 0.05 and 0.25 < float(hit.max()) < 0.35
    box = erased.any(dim=1).sum(dim=1) * erased.any(dim=2).sum(dim=1)  # area of what is around it
    assert torch.equal(box, erased.sum(dim=(1, 2)))


def test_low_resolution_takes_detail_and_leaves_the_mean() -> None:
    checks = (torch.arange(32)[:, None] + torch.arange(32)[None, :]).remainder(2).float().expand(64, 3, 32, 32) - 0.5
    changed = augment(checks, AugmentConfig(**{**OFF, "low_res": 1.0}), seeded())
    assert float(changed.std(dim=(1, 2, 3)).min()) < 0.02
    torch.testing.assert_close(changed.mean(dim=(1, 2, 3)), torch.zeros(64), atol=0.03, rtol=0)


def test_saturation_keeps_luma_and_grey() -> None:
    x = pictures() / 4
    changed = augment(x, AugmentConfig(**{**OFF, "saturation": 0.5}), seeded())
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((changed * weights).sum(1), (x * weights).sum(1), atol=1e-5, rtol=0)
    grey = x[:, :1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(
        augment(grey, AugmentConfig(**{**OFF, "saturation": 0.5}), seeded()), grey, atol=1e-5, rtol=0
    )
