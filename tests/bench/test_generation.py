"""What the benchmark of generation compares comes to the same people and pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import generation
from bench.generation import CONTESTANTS, FEW, MANY, figures, setting


def accepted(folder: Path) -> list[tuple[int, int]]:
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return sorted((line["slot"], line["seed"]) for line in lines if line["verdict"] == "kept")


def test_all_sides_accept_the_same_candidates(tmp_path: Path) -> None:
    given = setting(ids=2, samples=3, known=40)
    given = replace(given, plan=replace(given.plan, round_size=4))
    found = {}
    for name, make in CONTESTANTS.items():
        folder = tmp_path / name
        folder.mkdir()
        assert make(given, folder) == 6
        found[name] = accepted(folder)
        assert len(list(folder.rglob("*.png"))) == 12
    assert found["ours"] == found["plain"] == found["plain, unit"]


def test_figures_by_hand() -> None:
    seconds = {"ours": (0.01, 0.011), "plain": (0.05, 0.22), "plain, unit": (0.04, 0.088)}
    each = {(name, known): one for name, pair in seconds.items() for known, one in zip((FEW, MANY), pair, strict=True)}
    found = figures(each)
    assert found["accepted_pairs_ratio"] == pytest.approx(20) and found["accepted_pairs_ratio_unit"] == pytest.approx(8)
    assert found["cost_growth_100_to_10000"] == pytest.approx(1.1) and found["plain_cost_growth"] == pytest.approx(4.4)
    assert found["pairs_per_second"]["plain, 100 known"] == pytest.approx(20)
    assert generation.cosine(*np.array([[3, 4], [8, 6]], dtype=np.float32)) == pytest.approx(0.96)
