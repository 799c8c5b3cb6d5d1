"""Work by several processes: in order, whatever the number; a worker that dies is told."""

import os
import signal

import pytest

from dnnlib.errors import UserError
from dnnlib.workers import Pool, map_in_order

_base: list[int] = []


def begin(base: int) -> None:
    _base[:] = [base]


def add(item: int) -> int:
    if item == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    if item < 0:
        raise UserError(f"{item} is negative")
    return _base[0] + item


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(map_in_order(add, range(20), workers, begin, (100,))) == list(range(100, 120))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_job_raises_comes_through(workers: int) -> None:
    with pytest.raises(UserError, match="-1 is negative"):
        list(map_in_order(add, [1, -1, 2], workers, begin, (0,)))


def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(UserError, match="--workers: a worker process was ended from outside"):
        list(map_in_order(add, [1, 99, 2], 2, begin, (0,)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pool_works_on_what_is_submitted(workers: int) -> None:
    with Pool(workers, begin, (100,)) as pool:
        waits = [pool.submit(add, item) for item in (3, -1, 5)]
        assert (waits[2](), waits[0](), waits[0]()) == (105, 103, 103)
        with pytest.raises(UserError, match="-1 is negative"):
            waits[1]()


def test_a_pool_that_lost_a_worker_says_so_in_one_line_from_then_on() -> None:
    with Pool(1, begin, (0,), option="--encoders") as pool:
        with pytest.raises(UserError, match="--encoders: a worker process was ended from outside"):
            pool.submit(add, 99)()
        with pytest.raises(UserError, match="--encoders: a worker process was ended from outside"):
            pool.submit(add, 1)()
