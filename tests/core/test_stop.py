"""A signal is a wish, heard between two steps; a second Ctrl-C is an order."""

import os
import signal
import threading

import pytest

from apatite.core.stop import SIGNALS, stop_on_signal


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_nothing_else_happens(number):
    with stop_on_signal() as stop:
        assert stop.by is None
        os.kill(os.getpid(), number)
        assert stop.by == number


@pytest.mark.parametrize("first", SIGNALS)
def test_only_an_interrupt_after_another_signal_ends_at_once(first):
    with stop_on_signal() as stop:
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.by == signal.SIGUSR1


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="bad"), stop_on_signal():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise ValueError("bad")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_the_main_thread_nothing_is_taken_over():
    """Python allows handlers in the main thread alone; a run in another thread still runs."""
    before, seen = [signal.getsignal(number) for number in SIGNALS], []

    def work() -> None:
        with stop_on_signal() as stop:
            seen.extend([stop.by, [signal.getsignal(number) for number in SIGNALS] == before])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, True]
