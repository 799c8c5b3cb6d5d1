"""Storing what is finished, in order, while the networks go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class StoreLater(Generic[T]):
    """Does jobs one after the other in a thread of its own, where a disk and encoder processes may be waited for.

    pending: jobs that may be unfinished; with 0 this thread does each at once. After one that fails none is done.
    """

    def __init__(self, pending: int) -> None:
        self._pending = pending
        self._thread = ThreadPoolExecutor(1) if pending else None
        self._futures: deque[Future[T]] = deque()
        self._failed = False

    def put(self, job: Callable[[], T]) -> list[T]:
        """Has it done; returns what jobs have returned that were waited for. Raises what one of them raised."""
        if self._thread is None:
            return [job()]
        self._futures.append(self._thread.submit(self._do, job))
        return self._wait(self._pending)

    def flush(self) -> list[T]:
        """Waits for all; returns and raises as `put`."""
        return self._wait(0)

    def _wait(self, pending: int) -> list[T]:
        results = []
        while len(self._futures) > pending:
            results.append(self._futures.popleft().result())
        return results

    def _do(self, job: Callable[[], T]) -> T:
        if self._failed:
            raise RuntimeError("what had to be stored before could not be")
        try:
            return job()
        except BaseException:
            self._failed = True
            raise
