"""Lines of metrics.jsonl against numpy, one pass over what is drawn, and what a training run gets back."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.files import append_line, read_lines
from metrics import registry
from metrics.choices import METRICS_FILE
from metrics.feature_stats import FeatureStats
from metrics.frechet import frechet_distance
from metrics.kernel_distance import kernel_distance
from metrics.measure import SnapshotMetrics, check_metrics, geometric_mean, measure, refuse_conditions
from metrics.observers import Detector, Observer, observer_of
from metrics.pictures import GROUPS, PAIRS, Pictures, Rows, Side, Stream
from metrics.precision_recall import precision_recall
from metrics.real import RealPictures, cached_path
from metrics.registry import Result, Setting, parse_metrics
from metrics.rows import Seen
from torch_utils.spectra import SPECTRA

KEYS = {"metric", "spectrum", "value", "num_real", "num_fake", "detector", "detector_sha256", "resize", "seed"}
KEYS |= {"seconds"}
CPU = torch.device("cpu")


def corners(images: torch.Tensor) -> Rows:
    """A detector without a network: four pixels of the first channel."""
    return {"features": images[:, 0, ::3, ::3].reshape(len(images), -1).numpy()}


DETECTOR = Detector("arcface", "corners", "00ff", "none", corners)
OBSERVERS = {"arcface": observer_of(DETECTOR)}


def pictures(count: int, seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.integers(0, 256, (count, spectrum.channels, 4, 4), dtype=np.uint8))
        for name, spectrum in SPECTRA.items()
    }


def batches(whole: Pictures, number: int, size: int = 7) -> Iterator[Pictures]:
    for first in range(0, number, size):
        yield {name: images[first : min(first + size, number)] for name, images in whole.items()}


class Counted:
    """Pairs that count how often they are read."""

    def __init__(self, count: int, seed: int) -> None:
        self.whole, self.count, self.asked = pictures(count, seed), count, list[int]()

    def read(self, number: int) -> Iterable[Pictures]:
        self.asked.append(number)
        return batches(self.whole, number)

    def side(self, digest: str | None = None) -> Side:
        number = self.count if digest else None
        streams = {PAIRS: Stream(self.read)}
        return Side(tuple(SPECTRA), number, streams, lambda count: {"conditions": np.eye(count)}, digest)

    def real(self, digest: str = "data", detector: Detector = DETECTOR) -> RealPictures:
        return RealPictures(self.side(digest), {"arcface": observer_of(detector)})

    def features(self, spectrum: str, number: int | None = None) -> np.ndarray:
        return corners(self.whole[spectrum])["features"][:number]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counted:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Counted(20, seed=0)


def test_lines_say_what_was_measured(counted: Counted) -> None:
    drawn = Counted(30, seed=1)
    (lines,) = measure(parse_metrics("fd_arcface30"), counted.real(), drawn.side(), seed=3)
    assert drawn.asked == [30] and [line["spectrum"] for line in lines] == list(SPECTRA)
    for line in lines:
        assert line.keys() == KEYS
        assert (line["metric"], line["num_real"], line["num_fake"], line["seed"]) == ("fd_arcface30", 20, 30, 3)
        assert (line["detector"], line["detector_sha256"], line["resize"]) == ("corners", "00ff", "none")
        ours, theirs = (FeatureStats.of(side.features(line["spectrum"])) for side in (counted, drawn))
        assert line["value"] == pytest.approx(frechet_distance(ours, theirs), rel=1e-10)
    assert lines[0]["value"] != lines[1]["value"]


def test_each_picture_is_drawn_once_for_all_metrics(counted: Counted) -> None:
    drawn = Counted(30, seed=1)
    metrics = parse_metrics("fd_arcface10,fd_arcface25,kd_arcface20,pr_arcface30")
    lines = {
        (line["metric"], line["spectrum"]): line
        for line in chain.from_iterable(measure(metrics, counted.real(), drawn.side(), seed=3))
    }
    assert drawn.asked == [30] and len(lines) == 10
    for spectrum in SPECTRA:
        for number in (10, 25):
            ours, theirs = (
                FeatureStats.of(counted.features(spectrum)),
                FeatureStats.of(drawn.features(spectrum, number)),
            )
            value = lines[f"fd_arcface{number}", spectrum]["value"]
            assert value == pytest.approx(frechet_distance(ours, theirs), rel=1e-10)
        found = precision_recall(real=counted.features(spectrum), fake=drawn.features(spectrum))
        assert lines["pr_arcface30_precision", spectrum]["value"] == found.precision
        assert lines["pr_arcface30_recall", spectrum]["value"] == found.recall
        first, second = (
            rows / np.sqrt(np.square(rows.astype(float)).mean(axis=1, keepdims=True))
            for rows in (counted.features(spectrum), drawn.features(spectrum, 20))
        )
        kernel = lines["kd_arcface20", spectrum]
        assert kernel["value"] == pytest.approx(kernel_distance(first, second, seed=3)[0]) and "sd" not in kernel


def test_streams_are_read_one_by_one_and_labels_come_along(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric on groups and conditions, beside one on pairs."""
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    spread = Observer("spread", "plain", "", "", lambda seen: {"vis": np.array([np.ptp(seen["vis"].numpy())])}, GROUPS)
    got: list[Seen] = []

    def compute(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
        got.extend([real, fake])
        return [Result("vis", float(fake.rows["spread"]["vis"].sum()), "sum")]

    registry.register("spread{N}", needs=("spread",), real=False, higher_is_better=True, parts=("sum",))(compute)
    drawn = Counted(24, seed=1)
    grouped = Stream(lambda number: batches(drawn.whole, number // 8 * 8, 8), lambda number: number // 8)
    side = replace(drawn.side(), streams={**drawn.side().streams, GROUPS: grouped})
    real = RealPictures(counted.side("data"), {**OBSERVERS, "spread": spread})
    lines = list(chain.from_iterable(measure(parse_metrics("spread24,spread8,fd_arcface24"), real, side, seed=0)))
    by_hand = [float(np.ptp(drawn.whole["vis"][first : first + 8].numpy())) for first in (0, 8, 16)]
    assert [line["value"] for line in lines[:2]] == [sum(by_hand), by_hand[0]]
    assert lines[0]["metric"] == "spread24_sum" and lines[0]["detector_sha256"] == ""
    assert got[0].rows == {} and len(got[1].labels["conditions"]) == 24 and len(got[3].labels["conditions"]) == 8


def test_what_is_seen_of_real_pictures_is_read_once_and_kept_by_content(
    counted: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    real = counted.real()
    first = real.stats("arcface")
    assert real.stats("arcface") is first and len(counted.asked) == 1
    assert capsys.readouterr().err.count("cache miss") == 2
    again = counted.real().stats("arcface")
    assert len(counted.asked) == 1 and capsys.readouterr().err.count("cache hit") == 2
    for spectrum in SPECTRA:
        assert np.array_equal(again[spectrum].scatter, first[spectrum].scatter)
        assert np.array_equal(again[spectrum].mean, first[spectrum].mean)
    rows = real.rows("arcface")
    assert rows.keys() == {"vis/features", "nir/features"} and len(counted.asked) == 2
    assert np.array_equal(rows["nir/features"], counted.features("nir"))
    kept = counted.real().rows("arcface")
    assert len(counted.asked) == 2 and all(np.array_equal(kept[name], rows[name]) for name in rows)
    counted.real(digest="other data").stats("arcface")
    counted.real(detector=DETECTOR._replace(sha256="11")).stats("arcface")
    counted.real(detector=DETECTOR._replace(resize="other")).rows("arcface")
    assert len(counted.asked) == 5


def test_rows_are_kept_by_whose_each_picture_is(counted: Counted) -> None:
    """The same files under other people's names, or in another order, are other groups and other rows."""
    for asked, people in ((1, ["a", "b"]), (2, ["b", "a"]), (3, ["a", "a"]), (3, ["a", "b"])):
        labels = {"identities": np.repeat(people, 10)}
        side = replace(counted.side("data"), labels=partial(lambda labels, number: labels, labels))
        RealPictures(side, OBSERVERS).rows("arcface")
        assert len(counted.asked) == asked
        RealPictures(side, OBSERVERS).rows("arcface")
        assert len(counted.asked) == asked


@pytest.mark.parametrize("form", ["stats", "rows"])
@pytest.mark.parametrize("broken", [b"", b"hello", None])
def test_a_broken_cache_file_is_made_again(counted: Counted, broken: bytes | None, form: str) -> None:
    getattr(counted.real(), form)("arcface")
    for path in cached_path("").parent.iterdir():
        path.write_bytes(path.read_bytes()[:-8] if broken is None else broken)
    again = counted.real()
    getattr(again, form)("arcface")
    assert np.allclose(again.stats("arcface")["vis"].mean, counted.features("vis").mean(axis=0))
    assert len(counted.asked) == (2 if form == "stats" else 3)
    getattr(counted.real(), form)("arcface")
    assert len(counted.asked) == (2 if form == "stats" else 3)


def test_a_missing_file_of_one_spectrum_costs_that_one(counted: Counted) -> None:
    expected = counted.real().stats("arcface")
    cached_path(counted.real()._key("arcbifacegan-feature-stats-1", "arcface", "vis")).unlink()
    again = counted.real().stats("arcface")
    assert len(counted.asked) == 2 and again.keys() == expected.keys()
    assert all(np.array_equal(again[name].mean, expected[name].mean) for name in SPECTRA)


def test_a_cache_that_cannot_be_written_does_not_stop_the_run(
    counted: Counted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert counted.real().stats("arcface")["vis"].number == 20 and len(counted.real().rows("arcface")) == 2
    assert "not kept" in capsys.readouterr().err


def test_a_training_run_gets_figures_for_both_spectra_and_keeps_the_lines(counted: Counted, tmp_path: Path) -> None:
    snapshots = []

    def fake_of(snapshot: Path) -> Side:
        snapshots.append(snapshot.name)
        return Counted(20, seed=len(snapshots)).side()

    metrics = parse_metrics("fd_arcface,pr_arcface9")
    measured = SnapshotMetrics(metrics, counted.real(), fake_of, tmp_path, seed=0, device=CPU)
    assert measured.best_by == ("fd_arcface", False)
    assert replace(measured, metrics=metrics[1:]).best_by == ("pr_arcface9_precision", True)
    measured.prepare()
    assert len(counted.asked) == 2
    first = measured(tmp_path / "network-snapshot-000001.safetensors", 1000)
    second = measured(tmp_path / "network-snapshot-000002.safetensors", 2000)
    names = ("fd_arcface", "pr_arcface9_precision", "pr_arcface9_recall")
    assert len(counted.asked) == 2 and first != second
    assert first.keys() == {f"{name}{part}" for name in names for part in ("/vis", "/nir", "")}
    for name in names:
        assert first[name] == pytest.approx((first[f"{name}/vis"] * first[f"{name}/nir"]) ** 0.5)
    lines = read_lines(tmp_path / METRICS_FILE)
    assert len(lines) == 12 and all(line.keys() == KEYS | {"snapshot", "images_seen"} for line in lines)
    assert [line["snapshot"] for line in lines[::6]] == snapshots and lines[-1]["images_seen"] == 2000
    assert lines[0]["value"] == first["fd_arcface/vis"]


def test_lines_of_calc_metrics_beside_a_run_s_own_stay(counted: Counted, tmp_path: Path) -> None:
    """It writes beside the network that it measures, and knows no images seen."""
    for line in ({"images_seen": 1000}, {"gen_model": "network-snapshot-000002.safetensors"}, {"images_seen": 2000}):
        append_line(tmp_path / METRICS_FILE, line)
    SnapshotMetrics([], counted.real(), lambda snapshot: counted.side(), tmp_path, 0, CPU).forget_later(1000)
    assert [next(iter(line)) for line in read_lines(tmp_path / METRICS_FILE)] == ["images_seen", "gen_model"]


def test_a_run_that_trains_in_tf32_measures_without(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sees of real pictures is kept, and calc_metrics.py, which has no TF32, takes it from there."""
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    found: list[bool] = []
    for flag in flags:
        monkeypatch.setattr(flag, "allow_tf32", True)

    def look(images: torch.Tensor) -> Rows:
        found.extend(flag.allow_tf32 for flag in flags)
        return corners(images)

    real = counted.real(detector=DETECTOR._replace(look=look))
    measured = SnapshotMetrics(parse_metrics("fd_arcface"), real, lambda snapshot: counted.side(), tmp_path, 0, CPU)
    measured.prepare()
    prepared = len(found)
    measured(tmp_path / "network-snapshot-000001.safetensors", 1000)
    assert 0 < prepared < len(found) and not any(found) and all(flag.allow_tf32 for flag in flags)


def test_one_figure_for_several_spectra_by_hand() -> None:
    assert geometric_mean([2.0, 8.0]) == 4 and geometric_mean([5.0]) == 5 and geometric_mean([-1.0, 3.0]) == 0


def test_what_cannot_be_measured_is_said_before(counted: Counted) -> None:
    def check(names: str, real: int, fake: Side | None = None) -> list[str]:
        return check_metrics(parse_metrics(names), replace(counted.side("data"), number=real), fake, OBSERVERS)

    assert check("fd_arcface", 2048) == [] and check_metrics([], counted.side("data"), None, {}) == []
    assert "3000 real and 500 drawn" in check("fd_arcface500", 3000)[0]
    assert "2047 real and 2047 drawn" in check("fd_arcface", 2047)[0]
    assert check("kd_arcface", 100) == []
    with pytest.raises(UserError, match="--metrics: fd_arcface: 1 real and 1 drawn pictures; 2 of each"):
        check("fd_arcface", 1)
    with pytest.raises(UserError, match="pr_arcface9: 3 real and 9 drawn pictures; 4 of each"):
        check("pr_arcface9", 3)
    folder = replace(counted.side(), number=40)
    with pytest.raises(UserError, match="fd_arcface50: there are 40 drawn pairs; fd_arcface measures all of them"):
        check("fd_arcface50", 3000, folder)
    assert "3000 real and 40 drawn" in check("fd_arcface", 3000, folder)[0]
    refuse_conditions(parse_metrics("fd_arcface,cross_id"))
    with pytest.raises(UserError, match="--metrics: id_consistency5k: compares with the condition, and the network"):
        refuse_conditions(parse_metrics("fd_arcface,id_consistency5k"))
