"""A process that works on one case after another, under limits; its parent may lose it at any moment.

It is spawned, never forked: nothing of the parent's state, threads or locks is in it. It lives in a session of its
own, so a signal meant for the parent does not reach it, and is killed with whatever it started. It ends by itself
when its parent is gone. What it says is dropped: messages of decoders quote headers.
"""

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from apatite.batch.attempt import Answer, Death, Item, Task, attempt
from apatite.core.errors import ConfigError
from apatite.core.stop import SIGNALS

START_S = 180.0
"""No worker takes longer to import what its task needs."""


@dataclass(frozen=True, kw_only=True)
class CaseLimits:
    """What one case may take.

    Attributes:
        wall_s: Wall time.
        memory_bytes: Address space of the process that works on it; it also holds the libraries, about 2 GiB.
        debug_folder: Where the traceback of an unexpected error is written, readable by its owner only; nowhere
            without.
    """

    wall_s: float = 300.0
    memory_bytes: int = 6 * 2**30
    debug_folder: Path | None = None

    def __post_init__(self) -> None:
        if self.wall_s <= 0 or self.memory_bytes <= 0:
            raise ConfigError("a case needs time and memory", fix="give positive limits")


class Worker:
    """A worker process, seen by its parent.

    Args:
        task: What it does.
        limits: What one case may take.
    """

    def __init__(self, task: Task[Any], limits: CaseLimits) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._limits = limits
        self._process = context.Process(target=serve, args=(theirs, task, limits), name="apatite worker")
        self._process.start()
        theirs.close()
        self._is_ready = False
        self._until = time.monotonic() + START_S
        self._began = 0.0
        self.item: Item[Any] | None = None
        """What it works on."""

    @property
    def events(self) -> tuple[Connection, int]:
        """What to wait for: an answer, or its end."""
        return self._connection, self._process.sentinel

    def is_idle(self) -> bool:
        """Whether it can be given a case."""
        return self._is_ready and self.item is None and self._process.is_alive()

    def is_lost(self) -> bool:
        """Whether it ended, or hangs, with no case in its hands."""
        return self.item is None and (not self._process.is_alive() or (not self._is_ready and self._is_late()))

    def is_ready(self) -> bool:
        """Whether it ever said that it is ready."""
        return self._is_ready

    def give(self, item: Item[Any], result: Path, number: int) -> None:
        """Let it work on a case; the time counts from now."""
        self.item, self._began = item, time.monotonic()
        self._until = self._began + self._limits.wall_s
        with suppress(OSError):  # its end is seen by whoever waits for the answer
            self._connection.send((item, result, number))

    def poll(self) -> Answer | None:
        """The answer for its case, or its death with that case in hand; `None` for neither."""
        try:
            if self._connection.poll():
                return self._received(self._connection.recv())
        except (EOFError, OSError):
            # It is about to be gone; until it is, there would be something to read at once, again and again.
            self._process.join(1.0)
            return self._death("WORKER_KILLED")
        if not self._process.is_alive():
            return self._death("WORKER_KILLED")
        return self._death("DEADLINE") if self._is_late() else None

    def kill(self) -> None:
        """End it, and whatever it started; returns when it is gone."""
        if self._process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):  # it may not have a session of its own yet
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()

    def _received(self, message: Any) -> Answer | None:
        if not self._is_ready:
            self._is_ready = True
            return None
        return message

    def _death(self, code: str) -> Death | None:
        return None if self.item is None else Death(code=code, elapsed_s=time.monotonic() - self._began)

    def _is_late(self) -> bool:
        return time.monotonic() >= self._until


def serve(requests: Connection, task: Task[Any], limits: CaseLimits) -> None:
    """What a worker process does: say that it is ready, then answer every request."""
    os.setsid()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _fall_silent()
    threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    requests.send(True)
    while True:
        try:
            item, result, number = requests.recv()
        except EOFError:
            return
        requests.send(attempt(task, item, result, number, limits.debug_folder))


def _limit(kind: int, most: int) -> None:
    """Lower a limit; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _fall_silent() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.killpg(os.getpid(), signal.SIGKILL)
