"""A program that trains, kills the training over and over, and looks each time at what is left (test_killed_runs.py).

Each training is a fork of this process, which has torch imported already: starting anew would take seconds each.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard  # before the forks: each training needs it

import train
import training.training_loop
from training.run_folder import latest_state
from training.snapshots import load_generator, load_state

KILLS = 20
EARLY = 4  # kills before the first save of a sitting; the others come after it
ENDLESS = 10**6  # iterations; each is a tick, and every second one is saved


def fork_training(data: Path, outdir: Path, iterations: int, workers: int = 0) -> int:
    """Starts a training that goes on with the latest state; returns the process, the first of a group of its own."""
    options = f"--cfg tiny32 --fmaps 0.00390625 --batch 4 --tick 0.004 --snap 2 --keep 2 --kimg {iterations * 4 / 1000}"
    places = ["--data", str(data), "--outdir", str(outdir), "--device", "cpu", "--resume", "latest"]
    process = os.fork()
    if process == 0:
        os.setsid()
        status = 1
        try:
            train.main([*places, *options.split(), "--workers", str(workers)])
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return process


def ended(process: int) -> int:
    """Its exit status, or minus the signal that has ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def wait_for_another(outdir: Path, pattern: str) -> None:
    """Until a file of a name that fits has come or has been written again."""

    def newest() -> int:
        with contextlib.suppress(FileNotFoundError):  # removed while we look
            return max((path.stat().st_mtime_ns for path in outdir.glob(f"*/{pattern}")), default=0)
        return 0

    before, until = newest(), time.monotonic() + 60
    while newest() <= before:
        assert time.monotonic() < until, f"no {pattern} within a minute"
        time.sleep(0.005)


def look(outdir: Path) -> int:
    """Reads all that passes for whole; returns the iterations of the latest state."""
    for path in outdir.glob("*/network-snapshot-*.safetensors"):
        load_generator(path)
    states = {path: load_state(path)["counters"]["iteration"] for path in outdir.glob("*/training-state-*.pt")}
    latest = latest_state(outdir)
    assert latest is None or states[latest] == max(states.values())
    return states[latest] if latest else 0


def main(data: Path, folder: Path) -> None:
    """Two runs of the same length, one of them killed; prints what has happened as JSON."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    # A name for every snapshot, where all lie within one kimg.
    training.training_loop.stamp = "{:06d}".format  # type: ignore[attr-defined]
    rng, outdir = random.Random(0), folder / "killed"
    happened: dict[str, Any] = {"iterations": [0], "left": []}
    early, a_save = rng.sample(range(1, KILLS), EARLY), 0.0
    for attempt in range(KILLS):
        process = fork_training(data, outdir, ENDLESS)
        if attempt not in early:
            wait_for_another(outdir, "training-state-*.pt")
        if attempt == 0:
            began = time.perf_counter()
            wait_for_another(outdir, "training-state-*.pt")
            a_save = time.perf_counter() - began  # seconds, with its two iterations
        time.sleep(rng.uniform(0, 1.5 * a_save))
        os.kill(process, signal.SIGKILL)
        happened["left"].append(ended(process))
        happened["iterations"].append(look(outdir))

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        process = fork_training(data, outdir, ENDLESS, workers=1)
        wait_for_another(outdir, "events*")
        time.sleep(rng.uniform(0, a_save))
        os.killpg(process, number)  # as schedulers and terminals do: the worker gets it, too
        happened["left"].append(ended(process))
        happened["iterations"].append(look(outdir))

    total = happened["iterations"][-1] + 3
    for run in (outdir, folder / "whole"):
        happened["left"].append(ended(fork_training(data, run, total)))
        happened["iterations"].append(look(run))
    print(json.dumps(happened))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
