"""Command line -> configuration, and the schedules by hand."""

from typing import Any

import numpy as np
import pytest

from arcface.recognition_config import DEFAULT_EPOCHS, RecognitionConfig, batch_indices, build_config, learning_rate
from dnnlib.errors import UserError

FOUND: dict[str, Any] = {"pictures": 1000, "picture_size": 40, "data": {}}


def test_epochs_become_steps() -> None:
    assert build_config(**FOUND, batch=64, epochs=2).steps == 30  # 15 whole batches an epoch
    assert build_config(**FOUND, batch=64).steps == 15 * DEFAULT_EPOCHS
    assert build_config(**FOUND, steps=7).steps == 7


def test_the_input_size_is_the_pictures_own_for_a_narrow_network() -> None:
    assert build_config(**FOUND).input_size == 40
    assert build_config(**{**FOUND, "picture_size": 256}).input_size == 112
    assert build_config(**{**FOUND, "picture_size": 16}).input_size == 32
    assert build_config(**FOUND, resolution=64).input_size == 64
    assert build_config(**FOUND, backbone="r50").input_size == 112


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
        ({"resolution": 16}, "--resolution"),
        ({"backbone": "r18", "resolution": 64}, "--resolution"),
    ],
)
def test_what_cannot_be_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_config(**FOUND, **options)


def test_the_learning_rate_by_hand() -> None:
    config = RecognitionConfig(steps=100, warmup=0.1, lr=1.0)
    assert [learning_rate(config, step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate(config, 10) == pytest.approx(1.0)
    assert learning_rate(config, 55) == pytest.approx(0.5)
    assert 0 < learning_rate(config, 99) < 0.001


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own() -> None:
    config = RecognitionConfig(batch=5)
    epochs = [np.concatenate([batch_indices(config, 20, 4 * epoch + place) for place in range(4)]) for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert list(epochs[0]) != list(epochs[1])
    assert len(batch_indices(config, 23, 3)) == 5  # three are left out of each epoch
