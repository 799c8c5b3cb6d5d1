"""Exact nearest neighbours against the machine's matrix product, and the pass that keeps who is unlike all before.

Search: the nearest of M rows for each of N probes, as the private rule asks. A product of matrices of N and M rows
takes 2 N M D operations, and nothing exact can do with less; `gemm_fraction` is the rate of those operations, all that
the search does beside them in its time, over the rate of a square product measured in turns with it.

Uniqueness: identities in blocks, each block compared with everybody kept so far and within itself
(generation.privacy_diversity.admit_in_order on a gallery that grows). Rows are random directions, a few of them near
copies, so that nearly all are kept: the longest that the pass can be. Memory is what each adds at most to that of the
process with the rows in it.
"""

import contextlib
import resource
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import torch

from bench import measure
from dnnlib.cli import Command, option
from generation.privacy_diversity import admit_in_order
from torch_utils import search
from torch_utils.distributed import pick_device
from torch_utils.search import Gallery, Rows, nearest

BLOCK = 1024  # rows that are made, or judged in order, at a time
TOO_LIKE = 0.6  # cosine; random directions of 512 numbers stay below 0.3
PRODUCTS = 5  # square products beside each part of the probes
COPIES = 0.02  # of the identities are near another one


def unit_rows(count: int, size: int, seed: int) -> Rows:
    """Random directions, float32 [count, size]."""
    rows = np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_gallery(count: int, size: int, device: torch.device) -> Gallery:
    """`count` random directions, made block by block."""
    gallery = Gallery(size, device, capacity=count)
    for first in range(0, count, BLOCK):
        gallery.append(unit_rows(min(BLOCK, count - first), size, seed=first + 1))
    return gallery


def identities(first: int, count: int, size: int) -> Rows:
    """Rows [first, first + count) of the list that goes through the pass; some are near one of the rows before."""
    rows = unit_rows(count, size, seed=first + 1)
    near = np.random.default_rng(first).random(count) < COPIES
    mixed = rows + 2 * np.roll(rows, 1, axis=0)
    rows[near] = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True))[near]
    return rows


def uniqueness_pass(count: int, size: int, device: torch.device) -> int:
    """How many of `count` identities are kept."""
    gallery = Gallery(size, device, capacity=count)
    for first in range(0, count, BLOCK):
        rows = identities(first, min(BLOCK, count - first), size)
        gallery.append(rows[admit_in_order(rows, gallery, TOO_LIKE).passed])
    return len(gallery)


def measured(work: measure.Work, device: torch.device) -> tuple[float, float]:
    """Seconds that work takes once, and the MiB that the process, or the GPU, needs at most more than before."""
    before = memory_from_now(device)
    seconds = measure.timed(work, device)()
    return seconds, (peak_memory(device) - before) / 2**20


def memory_from_now(device: torch.device) -> int:
    """Bytes in use, from which on peak_memory counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with contextlib.suppress(OSError):  # without Linux's reset, an earlier peak counts too: too much, never too little
        Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def peak_memory(device: torch.device) -> int:
    """Bytes at the most since memory_from_now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) * 1024


@click.command(cls=Command)
@option("--probes", default=10_000, help="Probes of the search.")
@option("--rows", default=1_000_000, help="Rows that are searched.")
@option("--identities", "people", default=100_000, help="Identities that the uniqueness pass judges.")
@option("--size", default=512, help="Numbers of a row.")
@option("--threads", default=2, help="Threads of torch.")
@option("--device", default="auto", help="Device: auto, cpu, cuda, cuda:1.")
@option("--json", "json_path", metavar="FILE", help="Where to write the figures.")
def main(probes: int, rows: int, people: int, size: int, threads: int, device: str, json_path: str | None) -> None:
    """Measure exact search against the machine's matrix product, and the uniqueness pass."""
    torch.set_num_threads(threads)
    place = pick_device(device)
    results = {**search_figures(probes, rows, size, place), **uniqueness_figures(people, size, place)}
    results |= {"size": size, "device": str(place), "machine": measure.machine()}
    table = [
        ("search", f"{probes:,} probes in {rows:,} rows: {results['seconds_search']:.1f} s"),
        ("products", f"{results['search_gflops']:.0f} GFLOP/s, {results['gemm_fraction']:.0%} of a square product's"),
        ("its memory", f"{results['search_mib']:.0f} MiB beside the rows' {rows * size * 4 / 2**20:.0f}"),
        ("uniqueness", f"{people:,} identities: {results['seconds_uniqueness']:.1f} s, {results['kept']:,} kept"),
        ("its memory", f"{results['uniqueness_mib']:.0f} MiB with the kept rows' {people * size * 4 / 2**20:.0f}"),
    ]
    measure.report(f"{size} numbers a row on {place}, {threads} threads", table, results, json_path)


def search_figures(probes: int, rows: int, size: int, device: torch.device) -> dict[str, Any]:
    """The search of random probes in random rows, some at a time, in turns with square products."""
    gallery = random_gallery(rows, size, device)
    wanted = unit_rows(probes, size, seed=0)
    part = search.PROBES[device.type]
    product, operations = measure.matrix_product(device=device)
    nearest(wanted[:part], gallery)  # what is made once is there
    seconds, memory, rates = 0.0, 0.0, []
    for first in range(0, probes, part):
        with search.full_float32():
            rates += measure.take_turns({"product": measure.timed(product, device)}, PRODUCTS)["product"]
        took, mib = measured(lambda some=wanted[first : first + part]: nearest(some, gallery), device)  # type: ignore[misc]
        seconds, memory = seconds + took, max(memory, mib)
    speed, fastest = 2.0 * probes * rows * size / seconds, operations / measure.median(rates)
    return {
        "gemm_fraction": speed / fastest,
        "seconds_search": seconds,
        "search_gflops": speed / 1e9,
        "product_gflops": fastest / 1e9,
        "search_mib": memory,
        "probes": probes,
        "rows": rows,
    }


def uniqueness_figures(people: int, size: int, device: torch.device) -> dict[str, Any]:
    """The pass over random identities."""
    kept = 0

    def work() -> None:
        nonlocal kept
        kept = uniqueness_pass(people, size, device)

    seconds, memory = measured(work, device)
    named = {"seconds_uniqueness_100k": seconds} if people == 100_000 else {}
    return {**named, "seconds_uniqueness": seconds, "uniqueness_mib": memory, "identities": people, "kept": kept}


if __name__ == "__main__":
    main()
