"""A program that generates with stand-ins for the networks, in one or several processes, kills them, starts them again,
and tells as JSON what has happened (test_processes.py).

Each process is a fork of this one, which has torch imported already: starting anew would take seconds each.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from commands import generate_dataset
from dnnlib.cli import explain
from generation import storage
from generation.candidates import CandidateMaker
from tests.generation import fakes
from torch_utils.process_group import joined
from torch_utils.stop_signals import StopSignals

KILLS = 20
PLAN = {"ids": 10, "samples_per_id": 7, "tries": 60, "spread": 0.13, "max_slots": 400}
PATIENCE = 60  # seconds


class LoggedMaker(CandidateMaker):
    """Notes which candidates it makes, before it makes them, in a file of each process."""

    log: Path
    pause = 0.0

    def make(self, features, slots, attempts, detect=False):
        with open(self.log / str(os.getpid()), "a") as file:
            file.write(f"{slots[0]} {attempts[0]}\n")
        time.sleep(self.pause)
        return super().make(features, slots, attempts, detect)


def start(outdir: Path, log: Path, size: int = 1, pause: float = 0.0, **changes: Any) -> list[int]:
    """Forks the processes of a run; returns them, by rank."""
    meeting = Path(tempfile.mkdtemp()) / "store"
    return [_fork(rank, size, meeting, outdir, log, pause, {**PLAN, **changes}) for rank in range(size)]


def _fork(rank: int, size: int, meeting: Path, outdir: Path, log: Path, pause: float, plan: dict[str, Any]) -> int:
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
            together = joined(size, "cpu", f"file://{meeting}") if size > 1 else contextlib.nullcontext()
            with StopSignals().caught() as stop, together:
                _work(outdir, log, pause, plan, stop)
            status = 0
        except BaseException as error:
            status = explain(error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return process


def _work(outdir: Path, log: Path, pause: float, plan: dict[str, Any], stop: StopSignals) -> None:
    """generate_dataset.work, with stand-ins."""
    selection = fakes.make_selection(outdir, maker_class=LoggedMaker, **plan)
    selection.maker.log, selection.maker.pause, selection.stop = log, pause, stop
    rest: Any = SimpleNamespace(warnings=[])
    script: Any = generate_dataset
    script._open = lambda *_: (None, [])
    script.build_selection = lambda *_: selection
    options = defaultdict(bool, {"outdir": str(outdir), "device": "cpu", "workers": 0})  # the others are not given
    stored = storage.Storage()
    job = script.Job(options, selection.plan, rest, rest, stored, fakes.settings_of(selection))
    generate_dataset.work(job, stop)


def ended(processes: list[int]) -> list[int]:
    """Exit statuses, or minus the signals that have ended them."""
    statuses = []
    until = time.monotonic() + PATIENCE
    for process in processes:
        while True:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                break
            assert time.monotonic() < until, "does not end"
            time.sleep(0.005)
        statuses.append(os.waitstatus_to_exitcode(status))
    return statuses


def rounds(log: Path) -> dict[int, list[str]]:
    """What each process has begun to make, in order."""
    logs = {int(path.name): path.read_text().splitlines() for path in log.iterdir()}
    return {process: lines for process, lines in logs.items() if lines}


def wait_for(log: Path, processes: list[int], count: int = 1) -> None:
    """Until one of the processes has made `count` rounds."""
    until = time.monotonic() + PATIENCE
    while max((len(lines) for process, lines in rounds(log).items() if process in processes), default=0) < count:
        assert time.monotonic() < until, "makes nothing"
        time.sleep(0.002)


# ----------------------------------------------------------------------------
# What is tried.


def numbers(folder: Path) -> dict[str, Any]:
    """The same run by 1, 2 and 3 processes."""
    left = {}
    for size in (1, 2, 3):
        log = folder / f"log-{size}"
        log.mkdir()
        left[size] = ended(start(folder / str(size), log, size))
    return {"left": left, "rounds": {size: list(rounds(folder / f"log-{size}").values()) for size in left}}


def kills(folder: Path) -> dict[str, Any]:
    """A run by 1 to 3 processes that is killed over and over."""
    rng, log, outdir = random.Random(0), folder / "log", folder / "killed"
    log.mkdir()
    (folder / "log-whole").mkdir()
    ended(start(folder / "whole", folder / "log-whole"))
    sessions = []
    for attempt in range(KILLS):
        processes = start(outdir, log, 1 + attempt % 3, pause=0.002)
        if attempt % 5:  # others are killed while they start
            wait_for(log, processes)
        time.sleep(rng.uniform(0, 0.05))
        for process in processes:
            os.kill(process, signal.SIGKILL)
        sessions.append((processes, ended(processes)))
    processes = start(outdir, log)
    sessions.append((processes, ended(processes)))
    return {"sessions": sessions, "rounds": rounds(log)}


def stops(folder: Path) -> dict[str, Any]:
    """A run that is asked to stop, goes on by other numbers of processes, and is not disturbed by a second one."""
    log, outdir = folder / "log", folder / "stopped"
    log.mkdir()
    left: list[list[int]] = []
    late = []  # rounds that each process still made after the signal
    for size, number in ((2, signal.SIGTERM), (1, signal.SIGUSR1), (3, signal.SIGTERM)):
        processes = start(outdir, log, size, pause=0.02)
        wait_for(log, processes, 2)
        if size == 2:
            left.append(ended(start(outdir, log)))  # a second run in the same folder
        for process in processes[: 1 if size == 2 else None]:  # of two, one alone is asked
            os.kill(process, number)
        before = rounds(log)
        left.append(ended(processes))
        late += [len(lines) - len(before.get(process, [])) for process, lines in rounds(log).items()]
    left.append(ended(start(outdir, log, 2)))
    left.append(ended(start(outdir, log)))  # all is done already
    return {"left": left, "late": late, "rounds": rounds(log)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    what = {"numbers": numbers, "kills": kills, "stops": stops}[sys.argv[1]]
    print(json.dumps(what(Path(sys.argv[2]))))
