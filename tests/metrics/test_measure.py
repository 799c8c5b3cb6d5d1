"""Lines of metrics.jsonl against numpy, the cache of real statistics, and what a training run gets back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.files import read_lines
from metrics.detectors import Detector, Pictures
from metrics.feature_stats import FeatureStats
from metrics.frechet import frechet_distance
from metrics.measure import METRICS_FILE, SnapshotMetrics, check_metrics, geometric_mean, measure
from metrics.real import RealPictures, stats_path
from metrics.registry import Fakes, parse_metrics
from torch_utils.spectra import SPECTRA

KEYS = {"metric", "spectrum", "value", "num_real", "num_fake", "detector", "detector_sha256", "resize", "seed"}


def corners(images: torch.Tensor) -> np.ndarray:
    """A detector without a network: four pixels of the first channel."""
    return images[:, 0, ::3, ::3].reshape(len(images), -1).numpy()


DETECTOR = Detector("arcface", "corners", "00ff", "none", dim=4, features=corners)


def pictures(count: int, seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.integers(0, 256, (count, spectrum.channels, 4, 4), dtype=np.uint8))
        for name, spectrum in SPECTRA.items()
    }


def batches(whole: dict[str, torch.Tensor], size: int = 7) -> Iterator[Pictures]:
    for first in range(0, len(whole["vis"]), size):
        yield {name: images[first : first + size] for name, images in whole.items()}


class Counted:
    """Real pairs that count how often they are read."""

    def __init__(self) -> None:
        self.whole, self.reads = pictures(20, seed=0), 0

    def __call__(self) -> Iterator[Pictures]:
        self.reads += 1
        return batches(self.whole)

    def real(self, digest: str = "data", detector: Detector = DETECTOR) -> RealPictures:
        return RealPictures(digest, 20, self, detector)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counted:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Counted()


def test_lines_say_what_was_measured(counted: Counted) -> None:
    drawn = pictures(30, seed=1)
    asked = []

    def fakes(number: int) -> Iterator[Pictures]:
        asked.append(number)
        return batches(drawn, size=4)

    lines = list(measure(parse_metrics("fd_arcface30"), counted.real(), fakes, seed=3))
    assert asked == [30] and [line["spectrum"] for line in lines] == list(SPECTRA)
    for line in lines:
        assert line.keys() == KEYS | {"seconds"}
        assert (line["metric"], line["num_real"], line["num_fake"], line["seed"]) == ("fd_arcface30", 20, 30, 3)
        assert (line["detector"], line["detector_sha256"], line["resize"]) == ("corners", "00ff", "none")
        ours, theirs = (FeatureStats.of(corners(whole[line["spectrum"]])) for whole in (counted.whole, drawn))
        assert line["value"] == pytest.approx(frechet_distance(ours, theirs), rel=1e-10)
    assert lines[0]["value"] != lines[1]["value"]


def test_real_statistics_are_read_once_and_kept_by_content(
    counted: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    real = counted.real()
    first = real.stats()
    assert real.stats() is first and counted.reads == 1
    assert capsys.readouterr().out.count("cache miss") == 2
    again = counted.real().stats()
    assert counted.reads == 1 and capsys.readouterr().out.count("cache hit") == 2
    for spectrum in SPECTRA:
        assert np.array_equal(again[spectrum].scatter, first[spectrum].scatter)
        assert np.array_equal(again[spectrum].mean, first[spectrum].mean)
    counted.real(digest="other data").stats()
    counted.real(detector=DETECTOR._replace(sha256="11")).stats()
    counted.real(detector=DETECTOR._replace(resize="other")).stats()
    assert counted.reads == 4


@pytest.mark.parametrize("broken", [b"", b"hello", None])
def test_a_broken_cache_file_is_made_again(counted: Counted, broken: bytes | None) -> None:
    real = counted.real()
    expected = real.stats()["vis"].mean
    for spectrum in SPECTRA:
        path = stats_path(real._key(spectrum))
        path.write_bytes(path.read_bytes()[:-8] if broken is None else broken)
    assert np.array_equal(counted.real().stats()["vis"].mean, expected) and counted.reads == 2
    counted.real().stats()
    assert counted.reads == 2


def test_a_missing_file_of_one_spectrum_costs_that_one(counted: Counted) -> None:
    expected = counted.real().stats()
    stats_path(counted.real()._key("vis")).unlink()
    again = counted.real().stats()
    assert counted.reads == 2 and again.keys() == expected.keys()
    assert all(np.array_equal(again[name].mean, expected[name].mean) for name in SPECTRA)


def test_a_cache_that_cannot_be_written_does_not_stop_the_run(
    counted: Counted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert counted.real().stats()["vis"].number == 20
    assert "not kept" in capsys.readouterr().out


def test_a_training_run_gets_figures_for_both_spectra_and_keeps_the_lines(counted: Counted, tmp_path: Path) -> None:
    snapshots = []

    def fakes_of(snapshot: Path) -> Fakes:
        snapshots.append(snapshot.name)
        return lambda number: batches(pictures(number, seed=len(snapshots)))

    metrics = parse_metrics("fd_arcface,fd_arcface9")
    measured = SnapshotMetrics(metrics, counted.real(), fakes_of, tmp_path, seed=0)
    assert measured.best_by == ("fd_arcface", False)
    first = measured(tmp_path / "network-snapshot-000001.safetensors", 1000)
    second = measured(tmp_path / "network-snapshot-000002.safetensors", 2000)
    assert first.keys() == {f"{m.name}{part}" for m in metrics for part in ("/vis", "/nir", "")} and first != second
    for name in ("fd_arcface", "fd_arcface9"):
        assert first[name] == pytest.approx((first[f"{name}/vis"] * first[f"{name}/nir"]) ** 0.5)
    lines = read_lines(tmp_path / METRICS_FILE)
    assert len(lines) == 8 and all(line.keys() == KEYS | {"seconds", "snapshot", "images_seen"} for line in lines)
    assert [line["snapshot"] for line in lines[::4]] == snapshots and lines[-1]["images_seen"] == 2000
    assert lines[0]["value"] == first["fd_arcface/vis"]


def test_one_figure_for_several_spectra_by_hand() -> None:
    assert geometric_mean([2.0, 8.0]) == 4 and geometric_mean([5.0]) == 5 and geometric_mean([-1.0, 3.0]) == 0


def test_too_few_pictures_are_said_before() -> None:
    assert check_metrics(parse_metrics("fd_arcface"), 2048) == []
    assert check_metrics([], 1) == []
    assert "3000 real and 500 drawn" in check_metrics(parse_metrics("fd_arcface500"), 3000)[0]
    assert "2047 real and 2047 drawn" in check_metrics(parse_metrics("fd_arcface"), 2047)[0]
    with pytest.raises(UserError, match="--metrics: fd_arcface: 1 real picture"):
        check_metrics(parse_metrics("fd_arcface"), 1)
