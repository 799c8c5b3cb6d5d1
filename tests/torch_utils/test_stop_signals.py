"""A signal is remembered, not obeyed, and only inside the block."""

import os
import signal

from torch_utils.stop_signals import SIGNALS, SharedStop, StopSignals


def test_a_signal_is_remembered_however_often_it_comes() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    for number in SIGNALS:
        with StopSignals().caught() as stop:
            assert not stop()
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert stop() and stop.received == number
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_one_is_asked_all_know() -> None:
    with StopSignals().caught() as signals:
        stop = SharedStop(signals)
        assert not stop.received and not stop()
        os.kill(os.getpid(), SIGNALS[0])
        assert stop.received and stop.received and stop()
