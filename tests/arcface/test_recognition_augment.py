"""Augmentation: what is off changes nothing, grey stays grey, the same seed gives the same pictures."""

from dataclasses import fields

import torch

from arcface.recognition_augment import AugmentConfig, augment

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
