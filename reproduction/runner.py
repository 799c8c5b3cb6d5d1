"""Runs stages, as many at a time as there are slots, each with a log of its own; what stops this stops them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from reproduction.stages import DONE, FAILED, LOGS, STOPPED, Record, Stage, needed_by

PATIENCE = 300.0  # seconds that a stage may take to save what it has
POLL = 0.1
PR_SET_PDEATHSIG = 1  # of Linux's prctl
TAIL = 8192  # bytes of a log in which its last line is looked for


class StageFailed(Exception):
    """A stage ended with another status than 0. The text is one line; `status` is what the program leaves with."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Asked(Exception):
    """Somebody asked to stop; the stages have stored what they had."""


@dataclass
class Running:
    """A child at work. taken: the numbers of the slots that it has."""

    stage: Stage
    child: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float
    taken: list[int]


@dataclass
class Runner:
    """Runs the stages of one experiment that are not finished.

    program: what begins every command, such as the interpreter. folder: of the scripts. environment: a stage and
    its slots -> variables of its process. stopped: whether somebody asked to stop. say: gets a line.
    """

    outdir: Path
    record: Record
    stages: Sequence[Stage]
    slots: int
    environment: Callable[[Stage, Sequence[int]], Mapping[str, str]]
    folder: Path
    program: tuple[str, ...] = (sys.executable,)
    stopped: Callable[[], bool] = lambda: False
    say: Callable[[str], Any] = print

    def __post_init__(self) -> None:
        self.outdir = self.outdir.resolve()
        self.needs = needed_by(self.stages)
        self.running: list[Running] = []
        self.done: set[str] = set()
        self.free = list(range(self.slots))

    def run(self) -> None:
        """Raises StageFailed, Asked, or KeyboardInterrupt, when no child is left."""
        waiting = list(self.stages)
        try:
            while waiting or self.running:
                waiting = self._begin(waiting)
                time.sleep(POLL if self.running else 0)
                self._collect()
                if self.stopped():
                    raise Asked
        except BaseException:
            self._stop()
            raise

    # ----------------------------------------------------------------------------
    # Beginning.

    def _begin(self, waiting: list[Stage]) -> list[Stage]:
        """Begins what can begin, in order; returns the rest. A stage that needs many slots is not overtaken for ever:
        nobody behind it begins while it waits for slots alone."""
        rest: list[Stage] = []
        for number, stage in enumerate(waiting):
            if not self.needs[stage.name] <= self.done:
                rest.append(stage)
            elif self.record.finished(stage):
                self.done.add(stage.name)
                self.say(f"{self._place(stage)}  done before")
            elif min(stage.slots, self.slots) > len(self.free):
                return rest + waiting[number:]
            else:
                self._start(stage)
        return rest

    def _start(self, stage: Stage) -> None:
        log = f"{LOGS}/{self.stages.index(stage) + 1:02d}-{stage.name}.log"
        self.record.begin(stage, log)
        taken = [self.free.pop(0) for _ in range(min(stage.slots, self.slots))]
        (self.outdir / log).parent.mkdir(exist_ok=True)
        file = open(self.outdir / log, "ab")  # noqa: SIM115
        script, *arguments = stage.command(self.outdir)
        child = subprocess.Popen(
            [*self.program, str(self.folder / script), *arguments],
            cwd=self.outdir,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment(stage, taken)},
            start_new_session=True,  # Ctrl-C comes to us, and we ask the child to save what it has
            preexec_fn=_outlive_nobody if sys.platform == "linux" else None,
        )
        self.running.append(Running(stage, child, file, time.monotonic(), taken))
        self.say(f"{self._place(stage)}  ...")

    def _place(self, stage: Stage) -> str:
        return f"[{self.stages.index(stage) + 1:2}/{len(self.stages)}] {stage.name}"

    # ----------------------------------------------------------------------------
    # Ending.

    def _collect(self) -> None:
        """Notes which children have ended. Raises StageFailed for one that failed."""
        for one in [one for one in self.running if one.child.poll() is not None]:
            code = one.child.returncode
            self._note(one, DONE if code == 0 else FAILED)
            if code != 0:
                raise StageFailed(self._told(one, code), code if code > 0 else 128 - code)
            self.done.add(one.stage.name)
            self.say(f"{self._place(one.stage)}  {self.record.seconds([one.stage.name]):.0f} s")

    def _note(self, one: Running, state: str) -> None:
        one.log.close()
        self.running.remove(one)
        self.free = sorted([*self.free, *one.taken])
        self.record.end(one.stage, state, time.monotonic() - one.began, one.child.returncode)

    def _told(self, one: Running, code: int) -> str:
        log = self.outdir / self.record.stages[one.stage.name]["log"]
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        return f"{one.stage.name}: {how}: {last_line(log)} (log: {log}; the same command goes on from there)"

    def _stop(self) -> None:
        """Asks all children to save what they have, and waits; whoever does not end, or a second Ctrl-C, is a kill."""
        for one in self.running:
            _signal(one, signal.SIGTERM)
        try:
            deadline = time.monotonic() + PATIENCE
            for one in self.running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.child.wait(max(deadline - time.monotonic(), 0))
        finally:
            for one in self.running:
                if one.child.poll() is None:
                    _signal(one, getattr(signal, "SIGKILL", signal.SIGTERM))
                    one.child.wait()
            for one in list(self.running):  # none is left, also where the disk is full and nothing can be noted
                self._note(one, DONE if one.child.returncode == 0 else STOPPED)


def _outlive_nobody() -> None:
    """In a new child: a parent that is killed, or whose terminal is closed, can pass nothing on, so the kernel shall
    ask the child to save and leave. Else it would work on, and get in the way of the next run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal(one: Running, number: int) -> None:
    """To the child and the helpers that it has started; Windows knows no groups of processes."""
    send = getattr(os, "killpg", os.kill)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended; the second is Windows's word for it
        send(one.child.pid, number)


def last_line(log: Path) -> str:
    """The line of a log that says what went wrong: the last that begins with Error, or the last."""
    with open(log, "rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    errors = [line for line in lines if line.startswith("Error")]
    return (errors or lines or ["it said nothing"])[-1]
