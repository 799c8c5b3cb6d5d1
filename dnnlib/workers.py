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
    start: Callable[..., None],
    arguments: tuple[Any, ...] = (),
    option: str = "--workers",
) -> Iterator[Result]:
    """Yields job(item) for all items, in their order.

    Args:
        job: a module's function, as `start` is.
        workers: processes; 1 works in this one.
        start: is called with `arguments` once in each process, before its first item.

    Raises:
        UserError: a worker was ended from outside. What a job raises comes through as it is.
    """
    if workers <= 1:
        start(*arguments)
        yield from map(job, items)
        return
    # Spawned, not forked: a fork inherits the locks of the thread pools that torch may have begun.
    context = multiprocessing.get_context("spawn")
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


def _start(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers: they watch it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
