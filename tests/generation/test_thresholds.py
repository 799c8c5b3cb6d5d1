"""Thresholds: derivation by hand, clamps, calibration, and thresholds.json."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dnnlib.errors import UserError
from generation.thresholds import (
    PAPER_MEAN,
    PAPER_SD,
    calibrate,
    from_moments,
    from_scores,
    load_thresholds,
    save_thresholds,
)
from metrics.score_counts import STEP, ScoreCounts


def test_the_papers_constants():
    paper = from_moments(PAPER_MEAN, PAPER_SD, "r100")
    assert (paper.unique, paper.same, paper.repeat) == pytest.approx((0.622, 0.622, 0.853))
    assert paper.warnings == ()


def test_senseless_values_are_moved_and_said():
    weak = from_moments(0.3, 0.2, "toy")
    assert (weak.unique, weak.same, weak.repeat) == (0, 0, 0.5) and "below 0" in weak.warnings[0]
    strong = from_moments(0.97, 0.05, "toy")
    assert strong.repeat == 0.9999 and "more than a cosine" in strong.warnings[0]
    assert strong.unique == pytest.approx(0.87)


def features():
    """Two people with two pictures each in the plane, at 0 and 36.9, at 100 and 153.1 degrees: mated 0.8 and 0.6."""
    start = np.radians(100)
    angles = np.array([0, np.arccos(0.8), start, start + np.arccos(0.6)])
    return 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_calibration_by_hand():
    found = calibrate(features(), ["a", "a", "b", "b"], "toy")
    assert (found.mated_mean, found.mated_sd) == pytest.approx((0.7, 0.1))
    assert (found.unique, found.same, found.repeat) == pytest.approx((0.5, 0.5, 0.8))
    assert (found.mated_scores, found.nonmated_scores) == (2, 4)
    # Non-mated: cos 100 = -0.174, cos 153.1 = -0.892, cos 63.1 = 0.452, cos 116.3 = -0.442.
    assert found.nonmated_mean == pytest.approx(np.cos(np.radians([100, 153.1301, 63.1301, 116.2602])).mean())
    assert found.error_rates["unique"][1:] == (0, 0) and found.error_rates["repeat"].fnmr == 0.5
    assert found.eer == 0
    # At most one stranger in ten may match: more than 0.452, and the next score is 0.6. One in four: 0.452 itself.
    assert calibrate(features(), ["a", "a", "b", "b"], "toy", unique_fmr=0.1).unique == pytest.approx(0.6, abs=STEP)
    looser = calibrate(features(), ["a", "a", "b", "b"], "toy", unique_fmr=0.25)
    assert looser.unique == pytest.approx(0.452, abs=1e-3) and looser.same == pytest.approx(0.5)
    assert looser.error_rates["unique"].fmr == 0.25 and "FMR <= 0.25" in looser.warnings[0]


def test_points_for_an_audit():
    mated, nonmated = ScoreCounts([0.9, 0.5]), ScoreCounts(np.linspace(-0.5, 0.499, 1000))
    points = from_scores(mated, nonmated, "toy").fmr_points
    assert list(points) == ["1e-2", "1e-3"]  # a thousand scores cannot tell 1e-4
    assert points["1e-2"] == (pytest.approx(0.49, abs=STEP), 0.01, 0)
    assert points["1e-3"] == (pytest.approx(0.499, abs=STEP), 0.001, 0)
    assert from_scores(mated, ScoreCounts([1.0] * 200), "toy").fmr_points == {}  # no cosine is over all of them


def test_a_file_from_before_there_were_points_is_read(tmp_path):
    known = calibrate(features(), ["a", "a", "b", "b"], "toy").as_dict()
    del known["fmr_points"]
    (tmp_path / "t.json").write_text(json.dumps(known))
    assert load_thresholds(tmp_path / "t.json").fmr_points == {}


def test_nothing_to_calibrate_on():
    with pytest.raises(ValueError, match="no two pictures of one person"):
        calibrate(features(), ["a", "b", "c", "d"], "toy")
    with pytest.raises(ValueError, match="only one person"):
        calibrate(features(), ["a"] * 4, "toy")


def test_file_round_trip(tmp_path):
    path = tmp_path / "thresholds.json"
    found = calibrate(features(), ["a", "a", "b", "b"], "toy", unique_fmr=0.1)
    save_thresholds(path, found)
    assert load_thresholds(path) == found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unique": None}, "not a file of thresholds"),
        ({"repeat": 1.5}, "cosines between -1 and 1"),
        ({"same": 0.9, "repeat": 0.8}, "nothing would pass"),
        ({"same": "high"}, "not a file of thresholds"),
        ({"error_rates": {"unique": {"x": 1}}}, "not a file of thresholds"),
        ({"error_rates": {"unique": {"threshold": "<b>", "fmr": 1, "fnmr": 1}}}, "not a file of thresholds"),
        ({"mated_mean": float("inf")}, "not a file of thresholds"),
        ({"mated_scores": 10**400}, "not a file of thresholds"),
        ({"eer": True}, "not a file of thresholds"),
        ({"nonmated_mean": "a"}, "not a file of thresholds"),
        ({"recognition_model": [1]}, "not a file of thresholds"),
        ({"warnings": [{}]}, "not a file of thresholds"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path, change, words):
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({**from_moments(0.7, 0.1, "toy").as_dict(), **change}))
    with pytest.raises(UserError, match=words) as caught:
        load_thresholds(path)
    assert str(caught.value).startswith(f"--thresholds: {path}: ")


def test_a_list_or_missing_keys_are_refused(tmp_path):
    for text in ("[]", "{}", "3"):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(UserError, match="not a file of thresholds"):
            load_thresholds(tmp_path / "t.json")
