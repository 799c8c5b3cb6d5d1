"""What the processes of test_launch.py do; also a script, for processes that something else has started."""

import os
import signal
import sys
import time
from pathlib import Path

import click

from dnnlib.cli import Command, option
from dnnlib.errors import UserError
from torch_utils import distributed
from torch_utils.launch import World, find_world, launch
from torch_utils.stop_signals import EXIT_REQUEUE, StopSignals


def agree_and_fail(folder: Path, stop: StopSignals) -> None:
    """Each process leaves a file with what the others told it; then process 1 has a fault of ours."""
    rank = distributed.rank()
    told = distributed.from_rank_zero(lambda: f"from {rank}")
    (folder / str(rank)).write_text(f"{distributed.everywhere(lambda: rank)} {told} {distributed.any_of(rank == 1)}")
    distributed.barrier()
    if rank == 1:
        raise ValueError("one too many")
    distributed.barrier()


def killed(folder: Path, stop: StopSignals) -> None:
    """Process 1 is killed while all others wait for it."""
    if distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


def killed_once(folder: Path, stop: StopSignals) -> None:
    """Process 1 is killed, if that has not happened before; each of those who come later leaves a file with a count."""
    count = distributed.SharedCounter().add()
    distributed.barrier()
    if distributed.rank() == 1 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()
    (folder / str(distributed.rank())).write_text(str(count))


def killed_behind_its_back(folder: Path, stop: StopSignals) -> None:
    """Process 1 is killed while the others do something that nothing interrupts."""
    if distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(100)


def lacks_its_file(folder: Path, stop: StopSignals) -> None:
    """The user's mistake, seen by process 1 alone."""

    def look() -> None:
        if distributed.rank() == 1:
            raise UserError("--data: none: no such folder")

    distributed.everywhere(look)


def works_until_asked(folder: Path, stop: StopSignals) -> None:
    """Until a signal comes to any of them."""
    (folder / f"pid-{distributed.rank()}").write_text(str(os.getpid()))
    rounds = 0
    while not stop():
        time.sleep(0.01)
        rounds += 1
    (folder / f"rounds-{distributed.rank()}").write_text(str(rounds))
    sys.exit(EXIT_REQUEUE)


def run(work: str, folder: Path, size: int) -> None:
    """All processes in `work`, a name of the above."""
    launch(World(size, "cpu"), lambda: folder, globals()[work])


@click.command(cls=Command)
@option("--work", required=True)
@option("--folder", required=True)
@option("--gpus", type=int)
def main(work: str, folder: str, gpus: int | None) -> None:
    """Do `work` as one of several processes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    launch(find_world(gpus, "cpu"), lambda: Path(folder), globals()[work])


if __name__ == "__main__":
    main()
