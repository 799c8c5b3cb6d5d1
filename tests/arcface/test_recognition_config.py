"""Command line -> configuration, and the schedules by hand."""

from typing import Any

import numpy as np
import pytest

from arcface.choices import HEADS, AugmentConfig
from arcface.recognition_config import (
    DEFAULT_EPOCHS,
    DataFacts,
    RecognitionConfig,
    batch_indices,
    build_config,
    learning_rate,
)
from dnnlib.errors import UserError

FOUND = DataFacts(pictures=1000, picture_size=40, record={})


def build(gpus: int = 1, cuda: bool = False, size: int = 40, **options: Any) -> RecognitionConfig:
    return build_config(FOUND._replace(picture_size=size), options, gpus, cuda)


def test_epochs_become_steps() -> None:
    assert build(batch=64, epochs=2).steps == 30  # 15 whole batches an epoch
    assert build(batch=64).steps == 15 * DEFAULT_EPOCHS
    assert build(steps=7).steps == 7


def test_the_input_size_is_the_pictures_own_for_a_narrow_network() -> None:
    assert build().input_size == 40
    assert build(size=256).input_size == 112
    assert build(size=16).input_size == 32
    assert build(resolution=64).input_size == 64
    assert build(backbone="r50").input_size == 112


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spectra": "uv"}, "--spectra"),
        ({"backbone": "r51"}, "--backbone"),
        ({"epochs": 1, "steps": 1}, "--epochs and --steps"),
        ({"steps": 0}, "--steps"),
        ({"epochs": -1}, "--epochs"),
        ({"batch": 1}, "--batch"),
        ({"batch": 1001}, "--batch"),
        ({"lr": float("nan")}, "--lr"),
        ({"lr": 1e300}, "--lr: 1e[+]300; it must be greater than 0 and at most 1e[+]06"),
        ({"scale": float("inf")}, "--scale: inf"),
        ({"weight_decay": 1e300}, "--weight-decay"),
        ({"momentum": 1.0}, "--momentum: 1.0; it must be at least 0 and less than 1"),
        ({"dropout": 1.0}, "--dropout"),
        ({"zoom": 1e300}, "--zoom"),
        ({"turn": 181.0}, "--turn"),
        ({"epochs": 1e308}, "--epochs"),
        ({"eval_every": 1e308}, "--eval-every"),
        ({"tick": 10**400}, "--tick: 1"),
        ({"head": "softmax", "margin": 0.1}, "--margin: the softmax head"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"low_res": 1.5}, "--low-res"),
        ({"milestones": "1,2"}, "--milestones: the cosine"),
        ({"schedule": "step", "milestones": "2,1"}, "--milestones"),
        ({"schedule": "step", "milestones": "1,99"}, "--milestones"),
        ({"schedule": "step", "milestones": "x"}, "--milestones"),
        ({"schedule": "step", "milestones": "1e308"}, "--milestones"),
        ({"schedule": "step", "milestones": "nan"}, "--milestones"),
        ({"batch": 64, "gpus": 5}, "--batch: 64 pictures do not divide among 5"),
        ({"batch": 4, "gpus": 4}, "--batch"),
        ({"precision": "fp8"}, "--precision"),
        ({"resolution": 16}, "--resolution"),
        ({"backbone": "r18", "resolution": 64}, "--resolution"),
    ],
)
def test_what_cannot_be_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(**options)


def test_the_learning_rate_by_hand() -> None:
    config = RecognitionConfig(steps=100, warmup=0.1, lr=1.0)
    assert [learning_rate(config, step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate(config, 10) == pytest.approx(1.0)
    assert learning_rate(config, 55) == pytest.approx(0.5)
    assert 0 < learning_rate(config, 99) < 0.001


def test_the_other_schedules_by_hand() -> None:
    config = RecognitionConfig(steps=100, warmup=0.1, lr=1.0, schedule="poly")
    assert [learning_rate(config, step) for step in (9, 10, 55, 82)] == pytest.approx([1.0, 1.0, 0.25, 0.04])
    config = RecognitionConfig(steps=100, warmup=0.1, lr=1.0, schedule="step", milestones=(50, 80))
    assert [learning_rate(config, step) for step in (4, 49, 50, 80, 99)] == pytest.approx([0.5, 1, 0.1, 0.01, 0.01])


def test_milestones_are_epochs() -> None:
    assert build(epochs=10, schedule="step", milestones="2,5").milestones == (30, 75)
    assert build(epochs=10, schedule="step").milestones == (75, 112, 135)  # at 50, 75 and 90 %


def test_scale_and_margin_are_the_heads_own() -> None:
    found = {name: (config.scale, config.margin) for name in HEADS for config in [build(head=name)]}
    assert found == {"arcface": (64, 0.5), "cosface": (64, 0.35), "adaface": (64, 0.4), "softmax": (None, None)}
    assert build(head="cosface", scale=16.0, margin=0.0).scale == 16 and build(margin=0.0).margin == 0


def test_half_precision_is_for_gpus() -> None:
    assert build(precision="fp16").precision == build().precision == "fp32"
    assert build(cuda=True).precision == "fp16" and build(cuda=True, precision="bf16").precision == "bf16"


def test_augmentation_has_options() -> None:
    config = build(flip=0.0, erase=0.25)
    assert config.augment == AugmentConfig(flip=0.0, erase=0.25) and config.augment.turn == 4


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own() -> None:
    config = RecognitionConfig(batch=5)
    epochs = [np.concatenate([batch_indices(config, 20, 4 * epoch + place) for place in range(4)]) for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert list(epochs[0]) != list(epochs[1])
    assert len(batch_indices(config, 23, 3)) == 5  # three are left out of each epoch
