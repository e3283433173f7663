"""A signal asks a long task to stop; it does so at the next safe moment, with what is finished on disk.

SIGTERM is what batch systems send before they kill, SIGUSR1 what SLURM sends ahead of the time limit
(`--signal=B:USR1@120`), SIGINT is Ctrl-C. A second Ctrl-C stops at once, without a commit.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Whether, and by which signal, it was asked to stop."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.by = signal.Signals(number)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Take the signals over for the time of the block; outside the main thread nothing is taken over."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
