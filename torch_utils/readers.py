"""Processes that read pictures for a DataLoader: how they start, how they end, and what is said when one is lost."""

import sys
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from dnnlib.errors import UserError
from torch_utils import stop_signals

T = TypeVar("T")


def loader_options(workers: int, prefetch: int) -> dict[str, Any]:
    """Arguments of a DataLoader with so many processes, each of which reads `prefetch` batches ahead.

    Where the system forks (Linux), a process starts in milliseconds; it only decodes and resizes, on one thread.
    """
    # The loader draws its processes' seeds from a generator of its own: the program's is left alone.
    options: dict[str, Any] = {"num_workers": workers, "generator": torch.Generator().manual_seed(0)}
    if workers:
        options |= {"prefetch_factor": prefetch, "worker_init_fn": stop_signals.ignore}
    if workers and sys.platform == "linux":  # the context, because a child of `launch` would start them anew
        options["multiprocessing_context"] = "fork"
    return options


def lost_reader_named(work: Callable[[], T]) -> T:
    """What `work` returns; a UserError where one of its reading processes was ended from outside."""
    try:
        return work()
    except RuntimeError as error:  # DataLoader's, which may come at any point of the program
        if "DataLoader worker" not in str(error):
            raise
    # Raised out here, so that it does not hold on to the other processes through its context.
    raise UserError(
        "--workers: a process that reads pictures was killed, most often because memory ran out; "
        "fewer --workers or a smaller --batch need less"
    )


class Loader(DataLoader):
    """Without torch's advice to start no more processes than there are processors: they wait for disks, too, and how
    many there are is the user's word (--workers)."""

    def check_worker_number_rationality(self) -> None:
        pass


class _Made(Dataset, Generic[T]):
    """Item i is what `make` makes of i; the user's mistake comes as a value, because DataLoader would wrap an exception
    in a traceback of many lines."""

    def __init__(self, make: Callable[[int], T], count: int) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> T | UserError:
        try:
            return self.make(index)
        except UserError as error:
            return UserError(str(error))


def _as_it_is(item: T) -> T:
    return item


def made_in_order(
    make: Callable[[int], T], count: int, workers: int, prefetch: int = 2, pinned: bool = False
) -> Generator[T, None, None]:
    """make(0), make(1), ..., made by `workers` processes (0: this one). To be closed by whoever stops early: left to
    the garbage collector, the processes would be waited for in vain.

    pinned: tensors come in memory that a GPU can read. Raises UserError as `make` does.
    """
    options = loader_options(min(workers, count), prefetch)
    loader = Loader(_Made(make, count), batch_size=None, collate_fn=_as_it_is, pin_memory=pinned, **options)
    for item in loader:
        if isinstance(item, UserError):
            raise UserError(str(item))
        yield item
