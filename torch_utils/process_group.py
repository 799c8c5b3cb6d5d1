"""Makes this process one of several that work together, and ends it when another one dies.

A process that waits for a dead one, in a collective operation or on a GPU, does nothing else: so a thread in each
exchanges a heartbeat with all others.
"""

import contextlib
import multiprocessing
import os
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dnnlib import console
from dnnlib.cli import explain
from dnnlib.errors import SharedUserError, UserError
from torch_utils import crew, distributed

# Long waits are for what rank 0 does alone (checking a large dataset, metrics); the heartbeat notices a death.
WAIT = timedelta(hours=2)
MEETING = timedelta(minutes=5)  # from the first process to the last: machines do not start alike
BEAT_SECONDS = 2.0
BEAT_TIMEOUT = timedelta(seconds=45)  # of a process that still lives but says nothing


@contextlib.contextmanager
def joined(size: int, device: str, init_method: str = "env://") -> Iterator[None]:
    """Inside the block this process is one of `size`; RANK and LOCAL_RANK in the environment say which.

    device: as of `--device`. init_method: where all meet; by default as MASTER_ADDR and MASTER_PORT say.
    Raises UserError where they do not meet, or could not talk to one another.
    """
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    store = _meet(init_method, rank, size)
    if _kind_of_all(store, rank, size, _own_kind(device, local_rank)) == "GPU":
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    else:
        backend = "gloo"
    dist.init_process_group(backend, store=store, timeout=WAIT, world_size=size, rank=rank)
    heartbeat = _Heartbeat()
    try:
        with distributed.shared_store(store):
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
    from torch.distributed.rendezvous import rendezvous  # a torch without distributed lacks it, and trains alone

    try:
        store = next(rendezvous(init_method, rank, size, timeout=MEETING))[0]
        # torchrun keeps its store when it starts all again: what the dead have left in it must not be found.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return dist.PrefixStore(f"attempt/{attempt}", store)  # type: ignore[attr-defined]
    except dist.DistError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        minutes = MEETING.total_seconds() / 60
        raise UserError(
            f"MASTER_ADDR: not all {size} processes have met at {place} within {minutes:g} minutes; have all been "
            f"started, and can they reach it? ({_short(error)})"
        ) from error


def _own_kind(device: str, local_rank: int) -> str:
    """What this process would work on: CPU, GPU, or the lack of one."""
    count = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and count == 0):
        return "CPU"
    return "GPU" if local_rank < count else f"none of its machine's {count} usable GPUs"


def _kind_of_all(store: Any, rank: int, size: int, own: str) -> str:
    """`own`, if all processes have the same; they cannot talk by NCCL otherwise, and would wait for ever."""
    store.set(f"kind/{rank}", own)
    kinds = [store.get(f"kind/{other}").decode() for other in range(size)]
    lacking = next((other for other, kind in enumerate(kinds) if kind != kinds[0] or kind.startswith("none")), None)
    if lacking is not None:
        beside = f", process 0 has {kinds[0]}" if lacking else ""
        raise SharedUserError(
            f"--device: process {lacking} of {size} has {kinds[lacking]}{beside}; each needs a GPU "
            "of its own, or --device cpu for all"
        )
    return own


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
            console.fail(f"process {dist.get_rank()} ends, because another one is gone ({reason})")
        os._exit(1)
