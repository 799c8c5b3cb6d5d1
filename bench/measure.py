"""How every benchmark measures: contestants take turns, medians of rounds, the machine's own rates in the same run."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import torch

from dnnlib.files import atomic_write_json

Work = Callable[[], object]
L2_AND_MORE = 64 << 20  # bytes; a copy of less would be measured in the caches


def seconds_of(work: Work) -> float:
    """One timed call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def take_turns(contestants: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one that does not count: the machine's moods meet all alike."""
    for work in contestants.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            times[name].append(seconds_of(work))
    return times


def median(times: list[float]) -> float:
    """The median."""
    return statistics.median(times)


def matrix_product(size: int = 2048) -> tuple[Work, float]:
    """A float32 matrix product and its floating-point operations."""
    a, b = torch.randn([size, size]), torch.randn([size, size])
    out = torch.empty([size, size])
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
