"""Recognition training that is killed, loses a process or is asked to stop goes on, and ends as if nothing had been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from dnnlib.files import read_lines
from torch_utils.image_tree import encode_png
from train_recognition import main

ROOT = Path(__file__).resolve().parents[1]
STEPS = 60  # many enough to be caught amidst


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for person in range(4):
        for sample in range(4):
            path = tmp_path / "data/VIS" / f"{person}_{sample}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)))
    return tmp_path / "data"


def arguments(data: Path, outdir: Path, *more: str) -> list[str]:
    places = ["--data", str(data), "--outdir", str(outdir), "--device", "cpu", *more]
    return [*places, *f"--backbone mbfn --steps {STEPS} --batch 8 --snap 4 --tick 4 --scale 16".split()]


def start(data: Path, outdir: Path, *more: str) -> subprocess.Popen:
    """A program of its own, for signals."""
    command = [sys.executable, "train_recognition.py", *arguments(data, outdir, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def finish(data: Path, outdir: Path, *more: str) -> bytes:
    """To the end, in this process, which has torch imported; returns the model's file."""
    result = CliRunner().invoke(main, arguments(data, outdir, *more))
    assert result.exit_code == 0, result.output
    return (outdir / "recognition.safetensors").read_bytes()


def wait_for_another_state(outdir: Path) -> None:
    before, until = set(outdir.glob("training-state-*")), time.monotonic() + 60
    while not set(outdir.glob("training-state-*")) - before:
        assert time.monotonic() < until, "no state within a minute"
        time.sleep(0.002)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output + errors


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_model(data: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    process = start(data, stopped)
    wait_for_another_state(stopped)
    refused = CliRunner().invoke(main, arguments(data, stopped))
    assert refused.exit_code == 2 and "another process is at work" in refused.stderr
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL
    assert finish(data, stopped) == finish(data, tmp_path / "whole")
    assert [line["step"] for line in read_lines(stopped / "stats.jsonl")] == list(range(4, STEPS + 1, 4))
    assert not list(stopped.glob(".*.tmp")) and (stopped / "curves.png").exists()


@pytest.mark.slow
def test_two_processes_end_together_and_go_on(data: Path, tmp_path: Path) -> None:
    stopped, two = tmp_path / "stopped", ("--gpus", "2")
    process = start(data, stopped, *two)
    wait_for_another_state(stopped)
    crew = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(crew) == 2
    crew[-1].kill()
    status, text = ended(process)
    assert status == 1 and "was killed by SIGKILL" in text
    process = start(data, stopped, *two)
    wait_for_another_state(stopped)
    process.send_signal(signal.SIGTERM)
    status, text = ended(process)
    assert status == 75 and "Asked to stop" in text
    assert finish(data, stopped, *two) == finish(data, tmp_path / "whole", *two)
