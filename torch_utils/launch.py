"""Starts the processes of a run and ends them together.

`find_world` says how many there are and who starts them: this one alone, this one's children (`--gpus N`), or a
launcher outside that set RANK, WORLD_SIZE and so on (torchrun, or srun with a few variables; docs/distributed.md).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from dnnlib import console
from dnnlib.errors import SharedUserError
from torch_utils import crew, distributed
from torch_utils.process_group import joined
from torch_utils.stop_signals import StopSignals

P = TypeVar("P")

LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """How many processes work together, on which `--device`, and whether somebody else has started them."""

    size: int
    device: str
    outside: bool = False


def launchers_place() -> tuple[int, int]:
    """(this process's number, how many there are), as a launcher outside has set them; (0, 1) without one."""
    if not _is_outside():
        return 0, 1
    size = _launchers_size()  # checks the environment
    return int(os.environ["RANK"]), size


def find_world(gpus: int | None, device: str = "auto") -> World:
    """`--gpus` and `--device`, with the launcher's environment where there is one.

    Raises UserError where they contradict each other, or where there are too few GPUs.
    """
    outside = _is_outside()
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
    if size > 1 and device != "cpu" and count and not dist.is_nccl_available():  # as on Windows
        raise SharedUserError(
            f"--gpus: {size}, but this torch has no NCCL, by which GPUs talk to one another; 1, or --device cpu, "
            "would work"
        )
    if not outside and size == 1:
        distributed.pick_device(device)
    return World(size, device, outside)


def _is_outside() -> bool:
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


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
        with joined(world.size, world.device), StopSignals().caught() as stop:
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
        crew.run(world.size, _join, (world, work, plan, console.manner()))


def _join(
    rendezvous: str, world: World, work: Callable[[P, StopSignals], None], plan: P, manner: console.Manner
) -> None:
    """What a child of `launch` does; `rendezvous` is a file where all meet."""
    console.behave(**manner._asdict())
    console.hush_dependencies()
    if world.device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // world.size, 1))
    with StopSignals().caught() as stop, joined(world.size, world.device, f"file://{rendezvous}"):
        work(plan, stop)
