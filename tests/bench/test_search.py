"""The benchmark of exact search finds what there is, and its identities go through the pass as one would by one."""

import json
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner

from bench import search as bench
from torch_utils.search import nearest

CPU = torch.device("cpu")


def test_the_pass_keeps_who_is_unlike_all_kept_before(monkeypatch) -> None:
    monkeypatch.setattr(bench, "BLOCK", 50)
    rows = np.concatenate([bench.identities(first, 50, 64) for first in range(0, 300, 50)])
    kept: list[np.ndarray] = []
    for row in rows:
        if not kept or max(float(row @ other) for other in kept) <= bench.TOO_LIKE:
            kept.append(row)
    assert bench.uniqueness_pass(300, 64, CPU) == len(kept) < 300


def test_the_gallery_holds_what_is_made_block_by_block() -> None:
    gallery = bench.random_gallery(1100, 8, CPU)
    assert len(gallery) == 1100
    np.testing.assert_array_equal(nearest(bench.unit_rows(76, 8, seed=1025), gallery)[1], np.arange(1024, 1100))


def test_the_figures_are_written(tmp_path: Path) -> None:
    options = {"--probes": 20, "--rows": 300, "--identities": 200, "--size": 32, "--threads": 1, "--device": "cpu"}
    words = [str(word) for pair in {**options, "--json": tmp_path / "s.json"}.items() for word in pair]
    threads = torch.get_num_threads()
    try:
        result = CliRunner().invoke(bench.main, words, catch_exceptions=False)
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["gemm_fraction"] > 0 and found["seconds_uniqueness"] > 0 and found["search_mib"] < 200
    assert "seconds_uniqueness_100k" not in found  # not of so few
