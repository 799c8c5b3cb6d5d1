"""Work on many items by several processes: results in order, few ahead of the reader, nobody left behind."""

import contextlib
import functools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from dnnlib.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    job: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
    fork: bool = False,
    option: str = "--workers",
) -> Iterator[Result]:
    """Yields job(item) for all items, in their order.

    Args:
        job: a module's function or a partial of one, as `start` is.
        workers: processes; 1 works in this one.
        start: is called with `arguments` once in each process, before its first item.
        fork: start processes as copies of this one where the system can: faster, but only right where no library has
            begun threads, whose locks a copy inherits (torch).

    Raises:
        UserError: a worker was ended from outside. What a job raises comes through as it is.
    """
    with Pool(workers if workers > 1 else 0, start, arguments, fork, option) as pool:
        pending: deque[Callable[[], Result]] = deque()
        for item in items:
            pending.append(pool.submit(job, item))
            if len(pending) > 3 * workers or workers <= 1:
                yield pending.popleft()()
        while pending:
            yield pending.popleft()()


class Pool:
    """Processes that work on what is submitted, beside this one. To be used in a `with`, which waits for what is begun.

    Args:
        workers: processes; 0: this process does the work, where it waits for it.
        start, arguments, fork, option: as `map_in_order` has them.
    """

    def __init__(
        self,
        workers: int,
        start: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
        fork: bool = False,
        option: str = "--workers",
    ) -> None:
        self.workers, self._option = workers, option
        self._pool: ProcessPoolExecutor | None = None
        if workers:
            forks = fork and "fork" in multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context("fork" if forks else "spawn")
            self._pool = ProcessPoolExecutor(workers, context, _start, (start, arguments))
        elif start is not None:
            start(*arguments)

    def submit(self, job: Callable[[Item], Result], item: Item) -> Callable[[], Result]:
        """Has job(item) done; what comes back waits for its result, or raises what the job raised, or UserError where a
        worker was ended from outside."""
        if self._pool is None:
            return functools.cache(lambda: job(item))
        with self._lost_worker_named():
            future = self._pool.submit(job, item)

        def wait() -> Result:
            with self._lost_worker_named():
                return future.result()

        return wait

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def _lost_worker_named(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            raise UserError(
                f"{self._option}: a worker process was ended from outside (out of memory?); what is finished stays, "
                "go on with fewer workers"
            ) from error


def _start(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers: they watch it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
