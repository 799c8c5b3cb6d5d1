"""How far pictures of one condition lie apart: by hand, and as a metric on groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics.diversity import cosine_distance, pixel_distance
from metrics.measure import check_metrics, measure
from metrics.observers import Detector
from metrics.pictures import GROUPS, Pictures, Rows, Side, Stream
from metrics.real import RealPictures
from metrics.registry import build_observers, parse_metrics


def test_distances_by_hand() -> None:
    black, white, grey = (torch.full((1, 3, 2, 2), value, dtype=torch.uint8) for value in (0, 255, 55))
    assert pixel_distance(torch.cat([black, white])) == pytest.approx(255)
    assert pixel_distance(torch.cat([black, grey, white])) == pytest.approx((55 + 255 + 200) / 3)
    half = white.clone()
    half[..., 0] = 0
    assert pixel_distance(torch.cat([white, half])) == pytest.approx(255 / 2**0.5)
    assert pixel_distance(torch.cat([grey] * 8)) == 0
    assert cosine_distance(np.array([[2.0, 0], [0, 1], [-3, 0]])) == pytest.approx((1 + 2 + 1) / 3)
    assert cosine_distance(np.array([[3.0, 4], [6, 8]])) == 0


def means(images: torch.Tensor) -> Rows:
    """A detector without a network: darkness and brightness."""
    value = images.double().mean(dim=(1, 2, 3)).numpy()
    return {"features": np.stack([value, 255 - value], axis=1)}


DETECTOR = Detector("arcface", "means", "00ff", "none", means)


def side(groups: list[Pictures], number: int | None) -> Side:
    def batches(asked: int) -> Iterator[Pictures]:
        return iter(groups[: items(asked)])

    def items(asked: int) -> int:
        return min(len(groups), max(1, asked // 8))

    return Side(("vis", "nir"), number, {GROUPS: Stream(batches, items)}, lambda count: {}, "digest")


def group(*values: int) -> Pictures:
    vis = torch.stack([torch.full((3, 4, 4), value, dtype=torch.uint8) for value in values])
    return {"vis": vis, "nir": vis[:, :1] // 2}


def test_a_collapse_shows_beside_real_people(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    metrics = parse_metrics("diversity16,diversity8")
    real = RealPictures(side([group(0, 100), group(10, 30, 50)], 16), build_observers(metrics, {"arcface": DETECTOR}))
    fake = side([group(*[90] * 8), group(*[80] * 7, 88)], None)
    assert check_metrics(metrics, real.side, fake, real.observers) == []
    lines = {(one["metric"], one["spectrum"]): one for one in chain(*measure(metrics, real, fake, seed=0))}
    assert len(lines) == 2 * 4 * 2
    # Of the 28 pairs of eight pictures seven are of the last one with another; half as bright in NIR.
    assert lines["diversity16_pixels", "vis"]["value"] == pytest.approx((0 + 8 * 7 / 28) / 2)
    assert lines["diversity16_pixels", "nir"]["value"] == pytest.approx((0 + 4 * 7 / 28) / 2)
    assert lines["diversity8_pixels", "vis"]["value"] == 0 == lines["diversity8_identity", "nir"]["value"]
    assert lines["diversity8_pixels_real", "vis"]["value"] == pytest.approx((100 + (20 + 20 + 40) / 3) / 2)
    between = lines["diversity16_identity", "vis"]
    angle = np.arctan2(88, 167) - np.arctan2(80, 175)
    assert between["value"] == pytest.approx((1 - np.cos(angle)) * 7 / 28 / 2)
    assert between["detector"] == "means" and between["detector_sha256"] == "00ff"


def test_people_with_one_picture_each_are_refused() -> None:
    metrics = parse_metrics("diversity")
    observers = build_observers(metrics, {"arcface": DETECTOR})
    several, single = side([group(1, 2)], 9), side([], 9)
    assert check_metrics(metrics, several, several, observers) == []
    for real, fake, which in ((several, single, "drawn"), (single, several, "real"), (single, None, "real")):
        with pytest.raises(UserError, match=f"--metrics: diversity: no {which} person has several pictures"):
            check_metrics(metrics, real, fake, observers)
