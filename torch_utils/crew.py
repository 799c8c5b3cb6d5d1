"""Child processes that work together on this machine, and a parent that ends them together.

The first child that fails decides: its error is raised in the parent and the others are killed. Signals that ask for
a stop are handed on to the children, which then agree and leave with EXIT_REQUEUE.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from dnnlib import console
from dnnlib.errors import UserError
from torch_utils.stop_signals import EXIT_REQUEUE, SIGNALS

AFTERMATH_SECONDS = 0.5  # within which those that failed because of another one's death may be seen before it
INTERRUPT_SECONDS = 5.0  # for children to put their files away after Ctrl-C


class Report(NamedTuple):
    """What a child sends before it fails."""

    moment: float
    users_mistake: bool
    text: str


@dataclass
class Member:
    """One child, and the pipe on which its report comes."""

    process: BaseProcess
    reports: connection.Connection

    def report(self) -> Report | None:
        """Its report, once, if it has sent one."""
        try:
            return self.reports.recv() if self.reports.poll() else None
        except EOFError:
            return None


def parent_id() -> int:
    """The process that started this one, as it was at the start."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid is not None else os.getppid()


def run(size: int, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Calls target(rendezvous, *arguments) in `size` new processes with RANK, LOCAL_RANK and WORLD_SIZE set.

    rendezvous: the path of a file that does not exist yet, where they can meet. Returns when all have returned.
    Raises UserError where a child does, and SystemExit where one fails in another way or is asked to leave.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="crew-") as folder:
        members = []
        try:
            for rank in range(size):
                receiver, sender = context.Pipe(duplex=False)
                child = (rank, size, sender, target, (str(Path(folder) / "rendezvous"), *arguments))
                process = context.Process(target=_child, args=child, name=f"process {rank} of {size}")
                process.start()
                sender.close()
                members.append(Member(process, receiver))
            with _handing_on(members) as handed_on:
                _wait(members, handed_on)
        except KeyboardInterrupt:
            _signal(members, signal.SIGINT)
            until = time.monotonic() + INTERRUPT_SECONDS
            for member in members:
                member.process.join(max(until - time.monotonic(), 0))
            raise
        finally:
            for member in members:
                member.process.kill()
                member.process.join()


# ----------------------------------------------------------------------------
# The parent.


def _signal(members: list[Member], number: int) -> None:
    for member in members:
        if member.process.is_alive() and member.process.pid is not None:
            os.kill(member.process.pid, number)


@contextlib.contextmanager
def _handing_on(members: list[Member]) -> Iterator[set[int]]:
    """Inside the block, signals that ask for a stop go to the children; yields those that have come."""
    seen: set[int] = set()

    def hand_on(number: int, frame: FrameType | None) -> None:
        seen.add(number)
        _signal(members, number)

    before = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(members: list[Member], handed_on: set[int]) -> None:
    """Returns when all have ended well; raises as soon as one has not."""
    running: dict[Any, BaseProcess] = {member.process.sentinel: member.process for member in members}
    while running:
        for sentinel in connection.wait(list(running)):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode not in (0, EXIT_REQUEUE):
                time.sleep(AFTERMATH_SECONDS)
                _raise_first_failure(members, handed_on)
    if any(member.process.exitcode == EXIT_REQUEUE for member in members):
        sys.exit(EXIT_REQUEUE)


def _raise_first_failure(members: list[Member], handed_on: set[int]) -> None:
    killed = [member.process for member in members if (member.process.exitcode or 0) < 0]
    if killed:
        number = -(killed[0].exitcode or 0)
        if number in handed_on:  # it was asked to leave before it could listen: nothing is lost
            sys.exit(EXIT_REQUEUE)
        hint = "; is memory short?" if signal.Signals(number).name == "SIGKILL" else ""  # which Windows has not
        console.fail(f"{killed[0].name} was killed by {signal.Signals(number).name}{hint}")
        sys.exit(1)
    reports = [(report, member) for member in members if (report := member.report()) is not None]
    if not reports:
        ended = next(member.process for member in members if member.process.exitcode not in (None, 0, EXIT_REQUEUE))
        console.fail(f"{ended.name} ended with status {ended.exitcode}")
        sys.exit(1)
    first, member = min(reports, key=lambda pair: pair[0].moment)
    if first.users_mistake:
        raise UserError(first.text)
    sys.stderr.write(first.text)
    console.fail(f"{member.process.name} failed, as above")
    sys.exit(1)


# ----------------------------------------------------------------------------
# The children.


def _child(
    rank: int, size: int, sender: connection.Connection, target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    signal.signal(signal.SIGINT, _interrupt_once)
    try:
        target(*arguments)
        return
    except KeyboardInterrupt:
        status = 130
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except UserError as error:
        sender.send(Report(time.monotonic(), True, str(error)))
        status = 2
    except BaseException:
        sender.send(Report(time.monotonic(), False, traceback.format_exc()[-20000:]))
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads may still wait for other processes; nothing is left to be put away


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """Ctrl-C reaches a child from the terminal and from its parent: the second must not disturb the clearing up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
