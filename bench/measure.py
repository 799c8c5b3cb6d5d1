"""How every benchmark measures: contestants take turns, medians of rounds, the machine's own rates in the same run."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import click
import torch

from dnnlib.files import atomic_write_json

Work = Callable[[], object]
Timed = Callable[[], float]  # does its work once and returns the seconds
CPU = torch.device("cpu")


def timed(work: Work, device: torch.device = CPU) -> Timed:
    """`work` with a clock: until the device has done it."""

    def run() -> float:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - began

    return run


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(contestants: dict[str, Timed], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one that does not count: the machine's moods meet all alike."""
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(run())
    return times


class Side:
    """A process of its own for one side of a comparison, so that its memory and threads are as its users have them.

    prepare: a function of a module, called there with `arguments`; returns name -> work.
    """

    def __init__(self, prepare: Callable[..., dict[str, Work]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.names: list[str] = self._pipe.recv()

    def timed(self, name: str) -> Timed:
        """One of its works, timed there."""

        def run() -> float:
            self._pipe.send(name)
            return self._pipe.recv()

        return run


def _serve(pipe: Connection, prepare: Callable[..., dict[str, Work]], arguments: tuple) -> None:
    works = prepare(*arguments)
    pipe.send(list(works))
    while True:
        try:
            pipe.send(timed(works[pipe.recv()])())
        except (EOFError, BrokenPipeError):  # the other side has ended
            return


def median(times: list[float]) -> float:
    """The median."""
    return statistics.median(times)


def matrix_product(size: int = 2048, device: torch.device = CPU) -> tuple[Work, float]:
    """A float32 matrix product and its floating-point operations."""
    a, b, out = (torch.randn([size, size], device=device) for _ in range(3))
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def report(title: str, rows: list[tuple[str, str]], results: dict[str, Any], json_path: str | None) -> None:
    """Prints a table, and writes the figures beside it where a file is asked for."""
    click.echo(title)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        click.echo(f"  {name:<{width}}  {text}")
    if json_path:
        atomic_write_json(json_path, results)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
