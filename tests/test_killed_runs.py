"""Training that is killed at 20 random moments, and asked to stop at three more, ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib.files import read_lines
from tests.killed_runs import KILLS
from tests.training.test_training_loop import same, without_time
from training.snapshots import load_state


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tiny_data: Path, tmp_path: Path) -> None:
    """kill -9 costs the work since the last state and never a file; the whole state is equal to the bit in the end."""
    command = [sys.executable, "-m", "tests.killed_runs", str(tiny_data), str(tmp_path)]
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr[-2000:]
    happened = json.loads(result.stdout.splitlines()[-1])

    assert happened["left"] == [-signal.SIGKILL] * KILLS + [75, 75, 130, 0, 0]
    iterations = happened["iterations"]
    assert iterations == sorted(iterations), "a later sitting had less than an earlier one"
    saved = iterations[KILLS : KILLS + 3]
    assert saved[0] > iterations[KILLS - 1] and saved[1] > saved[0], "asked to stop, it saves what it has"

    killed, whole = (next((tmp_path / name).iterdir()) for name in ("killed", "whole"))
    last = f"training-state-{iterations[-1] * 4:06d}.pt"
    assert same(without_time(load_state(killed / last)), without_time(load_state(whole / last)))
    network = last.replace("training-state", "network-snapshot").replace(".pt", ".safetensors")
    assert (killed / network).read_bytes() == (whole / network).read_bytes()
    kimg = [[line["progress/kimg"] for line in read_lines(run / "stats.jsonl")] for run in (killed, whole)]
    assert kimg[0] == kimg[1] == pytest.approx([4 * count / 1000 for count in range(1, iterations[-1] + 1)])
    for run in (killed, whole):
        assert len(list(run.glob("training-state-*.pt"))) == 2
        assert not list(run.glob(".*.tmp"))
