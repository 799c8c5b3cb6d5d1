"""Work on many items by several processes: results in order, few ahead of the reader, nobody left behind."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
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
    if workers <= 1:
        if start is not None:
            start(*arguments)
        yield from map(job, items)
        return
    forks = fork and "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if forks else "spawn")
    with ProcessPoolExecutor(workers, context, _start, (start, arguments)) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(job, item))
                if len(pending) > 3 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                f"{option}: a worker process was ended from outside (out of memory?); what is finished stays, "
                "go on with fewer workers"
            ) from error
        finally:
            for future in pending:
                future.cancel()


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
