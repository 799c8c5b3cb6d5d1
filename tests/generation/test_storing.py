"""What is stored later is stored in order, and nothing after what could not be."""

from __future__ import annotations

import threading

import pytest

from generation.storing import StoreLater


def test_without_a_thread_each_job_is_done_at_once():
    later: StoreLater[int] = StoreLater(0)
    assert later.put(lambda: 1) == [1] and later.put(lambda: 2) == [2] and later.flush() == []


def test_in_order_and_no_more_than_so_many_wait():
    later: StoreLater[int] = StoreLater(2)
    go, done = threading.Event(), []

    def job(number):
        def do():
            assert go.wait(60)
            done.append(number)
            return number

        return do

    assert later.put(job(0)) == [] and later.put(job(1)) == [] and done == []  # this thread goes on
    go.set()
    assert later.put(job(2)) == [0]  # the third one waits for the first
    assert later.flush() == [1, 2] and done == [0, 1, 2]


def test_after_a_failure_nothing_is_stored():
    """A person must not be finished where one of its rounds could not be written."""
    later: StoreLater[None] = StoreLater(5)
    done: list[int] = []
    go = threading.Event()

    def fail():
        assert go.wait(60)
        raise OSError("disk full")

    later.put(fail)
    later.put(lambda: done.append(1))
    go.set()
    with pytest.raises(OSError, match="disk full"):
        later.flush()
    with pytest.raises(RuntimeError, match="could not be"):
        later.flush()
    assert done == []
