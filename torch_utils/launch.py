"""Starts the processes of a run and ends them together.

`find_world` says how many there are and who starts them: this one alone, this one's children (`--gpus N`), or a
launcher outside that set RANK, WORLD_SIZE and so on (torchrun, or srun with a few variables; docs/distributed.md).
A process that dies takes all others with it, whatever they wait for: a thread in each exchanges a heartbeat.
"""

import contextlib
import multiprocessing
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import click
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from dnnlib.cli import explain
from dnnlib.errors import SharedUserError, UserError
from torch_utils import crew, distributed
from torch_utils.stop_signals import StopSignals

P = TypeVar("P")

# Long waits are for what rank 0 does alone (checking a large dataset, metrics); the heartbeat notices a death.
WAIT = timedelta(hours=2)
MEETING = timedelta(minutes=5)  # from the first process to the last: machines do not start alike
BEAT_SECONDS = 2.0
BEAT_TIMEOUT = timedelta(seconds=45)  # of a process that still lives but says nothing
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """How many processes work together, on which `--device`, and whether somebody else has started them."""

    size: int
    device: str
    outside: bool = False


def find_world(gpus: int | None, device: str = "auto") -> World:
    """`--gpus` and `--device`, with the launcher's environment where there is one.

    Raises UserError where they contradict each other, or where there are too few GPUs.
    """
    outside = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if outside:
        size = _launchers_size()
        if gpus not in (None, size):
            raise SharedUserError(
                f"--gpus: {gpus}, but the launcher has started {size} processes; leave the option out"
            )
    else:
        size = 1 if gpus is None else gpus
    if size < 1:
        raise SharedUserError(f"--gpus: {size} is not at least 1")
    if size > 1 and device not in ("auto", "cpu", "cuda"):
        raise SharedUserError(f"--device: {device}: {size} processes take a GPU each; auto, cuda or cpu would be right")
    count = torch.cuda.device_count()
    if not outside and size > 1 and device != "cpu" and size > count:
        raise SharedUserError(
            f"--gpus: {size}, but this machine has {count} usable GPUs; "
            f"--device cpu would run {size} processes on the CPU"
        )
    if not outside and size == 1:
        distributed.pick_device(device)
    return World(size, device, outside)


def _launchers_size() -> int:
    missing = [name for name in LAUNCHER_VARIABLES if name not in os.environ]
    if missing:
        raise SharedUserError(f"{missing[0]}: not set, though RANK and WORLD_SIZE are; the launcher must set it, too")
    values = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")}
    for name, text in values.items():
        if not text.isdigit():
            raise SharedUserError(f"{name}: {text!r} in the environment is not a number")
    if int(values["RANK"]) >= int(values["WORLD_SIZE"]):
        raise SharedUserError(
            f"RANK: {values['RANK']} in the environment is not below WORLD_SIZE {values['WORLD_SIZE']}"
        )
    return int(values["WORLD_SIZE"])


def launch(world: World, prepare: Callable[[], P | None], work: Callable[[P, StopSignals], None]) -> None:
    """Calls `prepare` in one process, and `work` on what it returned in every process (None: there is no work).

    `prepare` checks what the user gave; its UserError is everybody's. `work` must be a function of a module, and what
    `prepare` returns must be picklable. Raises UserError and SystemExit of any process.
    """
    if world.outside and world.size > 1:
        with process_group(world), StopSignals().caught() as stop:
            plan = distributed.from_rank_zero(prepare)
            if plan is not None:
                work(plan, stop)
        return
    plan = prepare()
    if plan is None:
        return
    if world.size == 1:
        with StopSignals().caught() as stop:
            work(plan, stop)
    else:
        crew.run(world.size, _join, (world, work, plan))


def _join(rendezvous: str, world: World, work: Callable[[P, StopSignals], None], plan: P) -> None:
    """What a child of `launch` does; `rendezvous` is a file where all meet."""
    if world.device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // world.size, 1))
    with StopSignals().caught() as stop, process_group(world, f"file://{rendezvous}"):
        work(plan, stop)


# ----------------------------------------------------------------------------
# The process group and its heartbeat.


@contextlib.contextmanager
def process_group(world: World, init_method: str = "env://") -> Iterator[None]:
    """Inside the block this process is one of `world.size`; RANK and LOCAL_RANK in the environment say which."""
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    cuda = world.device != "cpu" and local_rank < torch.cuda.device_count()
    if cuda:
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    store = _meet(init_method, rank, world.size)
    dist.init_process_group(backend, store=store, timeout=WAIT, world_size=world.size, rank=rank)
    heartbeat = _Heartbeat()
    try:
        yield
    except BaseException as error:
        # Mistakes and stops are mostly everybody's: nobody may take them for a death.
        if isinstance(error, (UserError, SystemExit)) and heartbeat.leave(timeout=2 * BEAT_SECONDS):
            dist.destroy_process_group()
        elif multiprocessing.parent_process() is None:  # else `crew` tells the parent
            status = explain(error)
            sys.stdout.flush()
            os._exit(status)  # torch does not come to an end in peace while a thread waits for others
        raise
    heartbeat.leave(timeout=None)
    dist.destroy_process_group()


def _meet(init_method: str, rank: int, size: int) -> Any:
    """torch's store, where all processes find each other, once all have come."""
    try:
        return next(rendezvous(init_method, rank, size, timeout=MEETING))[0]
    except dist.DistError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        minutes = MEETING.total_seconds() / 60
        raise UserError(
            f"MASTER_ADDR: not all {size} processes have met at {place} within {minutes:g} minutes; have all been "
            f"started, and can they reach it? ({_short(error)})"
        ) from error


def _short(error: Exception) -> str:
    return textwrap.shorten(str(error), 120, placeholder=" ...")


class _Heartbeat:
    """A thread that meets those of all other processes every few seconds, and ends this process where one is missing.

    The process may wait for a collective operation that never ends at that time, so nothing but a thread notices.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo", timeout=BEAT_TIMEOUT)
        self._leaving = threading.Event()
        self._parent = crew.parent_id()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def leave(self, timeout: float | None) -> bool:
        """Waits until all processes leave, or, where they do not, `timeout` seconds; says whether they do."""
        self._leaving.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                self._leaving.wait(BEAT_SECONDS)
                leaving = torch.tensor([float(self._leaving.is_set())])
                dist.all_reduce(leaving, group=self._group)
                if leaving.item() == dist.get_world_size():
                    return
                if os.getppid() != self._parent:
                    raise RuntimeError("the process that started this one has ended")
        except RuntimeError as error:
            if not self._leaving.is_set():
                self._end(error)

    def _end(self, error: Exception) -> None:
        if multiprocessing.parent_process() is None:  # else the parent says what has happened
            reason = _short(error)
            click.echo(f"Error: process {dist.get_rank()} ends, because another one is gone ({reason})", err=True)
        os._exit(1)
