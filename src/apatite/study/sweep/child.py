"""The process in which one row is done: told what to do on stdin, it says on stdout how far it has got.

A crash, or memory that runs out, ends this process and not the sweep. It ends by itself when its parent is gone, in the
clean way in which a signal stops a run. Whatever libraries print goes to stderr, which the parent keeps as a log.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TypeVar

from apatite.core.config import load
from apatite.core.errors import EXIT_OK, ApatiteError
from apatite.study.sweep.work import Job, do_row

T = TypeVar("T")
EVERY_S = 0.3
"""Between two messages about progress."""


class Teller:
    """A watch that tells the parent; messages are lines of JSON.

    Args:
        replies: Where to.
    """

    def __init__(self, replies: IO[str]) -> None:
        self.replies = replies

    def __call__(self, items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
        """Each item in turn."""
        total = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type]
        count, told = 0, 0.0
        loss: float | None = None
        for item in items:
            count += 1
            loss = float(item["loss"]) if isinstance(item, Mapping) and "loss" in item else None
            if time.monotonic() - told >= EVERY_S:
                self.tell({"stage": stage, "total": total, "count": count, "loss": loss})
                count, told = 0, time.monotonic()
            yield item
        if count:
            self.tell({"stage": stage, "total": total, "count": count, "loss": loss})

    def tell(self, message: Mapping[str, object]) -> None:
        """Send one message."""
        self.replies.write(json.dumps(message) + "\n")
        self.replies.flush()


def main() -> int:
    """Do the row that stdin names; returns the exit code."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    teller = Teller(replies)
    job = load(Job, json.loads(_first_line()))
    threading.Thread(target=_stop_with_parent, daemon=True, name="parent").start()
    try:
        do_row(job, teller)
    except ApatiteError as error:
        teller.tell({"error": error.to_dict()})
        return error.exit_code
    teller.tell({"done": True})
    return EXIT_OK


def _first_line() -> bytes:
    """Read without a buffer: what follows is for the thread that waits for the parent's end."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1)
        if not part:
            break
        line += part
    return line


def _stop_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
