"""A row's process, seen by the sweep: its progress, the wish that it stops, and how it ended."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from apatite.core.commit import commit_text
from apatite.core.config import dump
from apatite.core.watch import Watch
from apatite.study.sweep.folder import SweepFolder
from apatite.study.sweep.work import Job

GRACE_S = 180.0
"""How long a row may take to commit its state once it was asked to stop."""
POLL_S = 0.2
TAIL_CHARACTERS, MOST_LOG_BYTES = 2000, 1 << 18
"""Of stderr: in the message, and in the log."""
MODULE = "apatite.study.sweep.child"

IsOver = Callable[[], bool]
"""Whether the row is to stop now."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a row ended in this call.

    Attributes:
        how: `done`, `stopped` with its state committed, or `failed`.
        error: As `ApatiteError.to_dict`, of a row that failed or could not begin.
        tail: The end of what its process said on stderr, where it died without a word.
    """

    how: Literal["done", "stopped", "failed"]
    error: dict[str, Any] = field(default_factory=dict)
    tail: str = ""


def do_in_child(job: Job, is_over: IsOver, title: str, watch: Watch) -> Ended:
    """Do one row in a process of its own.

    Args:
        job: The row.
        is_over: Asked a few times a second; once it is true the process is asked to stop.
        title: Before the name of the stage, for who watches.
        watch: Shows progress.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    messages = _Messages(child, is_over)
    try:
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # it died at once; its end says why
            child.stdin.write(json.dumps(dump(job)).encode() + b"\n")
            child.stdin.flush()
        for (stage, total), told in groupby(messages.progress(), key=lambda row: (row["stage"], row["total"])):
            for _ in watch(_steps(told), f"{title}: {stage}", total):
                pass
        child.wait()
    finally:
        _end(child)
        if messages.log:
            commit_text(SweepFolder(path=job.out).log(job.row), messages.log)
    return _ended(child.returncode, messages)


class _Messages:
    """What a child says, until it ends."""

    def __init__(self, child: "subprocess.Popen[bytes]", is_over: IsOver) -> None:
        self.child, self.is_over = child, is_over
        self.asked_at: float | None = None
        self.is_done = False
        self.error: dict[str, Any] = {}
        self._stderr = b""

    @property
    def log(self) -> str:
        """The end of what it said on stderr."""
        return self._stderr.decode(errors="replace")

    def progress(self) -> Iterator[dict[str, Any]]:
        """Messages about progress; how it ended is kept for later."""
        for line in self._lines():
            message = json.loads(line)
            self.is_done |= "done" in message
            self.error = message.get("error", self.error)
            if "stage" in message:
                yield message

    def _lines(self) -> Iterator[bytes]:
        assert self.child.stdout is not None and self.child.stderr is not None
        source, errors, rest = self.child.stdout.fileno(), self.child.stderr.fileno(), b""
        is_open = {source, errors}
        while is_open:
            self._ask_to_stop()
            ready = select.select(list(is_open), [], [], POLL_S)[0]
            if not ready and self.child.poll() is not None:
                return  # whoever holds the pipes now outlived the row, and ends with its group
            for pipe in ready:
                part = os.read(pipe, 1 << 16)
                if not part:
                    is_open.discard(pipe)
                elif pipe == errors:
                    self._stderr = (self._stderr + part)[-MOST_LOG_BYTES:]
                else:
                    *whole, rest = (rest + part).split(b"\n")
                    yield from whole

    def _ask_to_stop(self) -> None:
        if self.asked_at is None and self.is_over():
            self.asked_at = time.monotonic()
            self.child.send_signal(signal.SIGTERM)
        if self.asked_at is not None and time.monotonic() - self.asked_at > GRACE_S:
            _kill(self.child)


def _steps(told: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One item per step, as the bar of a run in this process would see them."""
    for row in told:
        item = {} if row["loss"] is None else {"loss": row["loss"]}
        for _ in range(row["count"]):
            yield item


def _ended(code: int, messages: _Messages) -> Ended:
    if code == 0 and messages.is_done:
        return Ended(how="done")
    is_stopped = messages.error.get("error") == "StoppedError"
    if is_stopped or (messages.asked_at is not None and not messages.error):
        return Ended(how="stopped")
    tail = "" if messages.error else messages.log[-TAIL_CHARACTERS:]
    return Ended(how="failed", error=messages.error or _death(code), tail=tail)


def _death(code: int) -> dict[str, Any]:
    if code < 0:
        by = signal.Signals(-code).name
        what, fix = f"its process was killed by {by}", "look at its log; a kill without a word is often lack of memory"
    else:
        what, fix = f"its process ended with exit code {code}", "look at its log, and report it"
    return {"error": "ApatiteError", "what": what, "fix": fix, "where": "", "code": "WORKER_KILLED", "exit_code": 1}


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Leave no process behind, whatever happened."""
    _kill(child)
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """The process and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
