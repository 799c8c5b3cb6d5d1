"""Signals that ask a run to save what it has and leave, so that a scheduler can start it again.

SIGTERM is what schedulers and torchrun send before they kill, SIGUSR1 what Slurm is told to send a while before the
time is up (docs/distributed.md).
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from torch_utils import distributed

EXIT_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: not done, try again
SIGNALS = tuple(
    number for name in ("SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None)) is not None
)  # Windows has no SIGUSR1


def ignore(_worker: int = 0) -> None:
    """For helpers of a process: schedulers signal them, too, and the process needs them to finish its work."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class StopSignals:
    """Remembers that a signal came; whoever works asks at a convenient moment."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator["StopSignals"]:
        """Inside the block the signals are remembered, however many come, and do nothing else."""
        before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def __call__(self) -> bool:
        """Whether any process was asked to leave; every process must ask, and gets the same answer."""
        return distributed.any_of(self.received is not None)


class SharedStop:
    """Whether any process was asked to leave, without waiting for the others. Made by all processes together."""

    def __init__(self, signals: StopSignals) -> None:
        self._signals, self._told, self._asked = signals, False, distributed.SharedCounter()

    @property
    def received(self) -> bool:
        """What is known now; a process that was asked tells the others when it looks."""
        if self._signals.received is not None and not self._told:
            self._told = True
            self._asked.add()
        return self._asked.value > 0

    def __call__(self) -> bool:
        """As StopSignals has it: every process must ask, and gets the same answer."""
        return self._signals()
