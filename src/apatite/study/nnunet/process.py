"""One command in a process group of its own: its rows are read while it runs, and nothing of it is left behind.

What it prints goes to a log that grows while it runs, the one file here that is not written whole or not at all.
nnU-Net starts pools of processes, and some of them outlive whoever started them; so the group is killed at the end,
however that came. When this process is killed, the pipe to the command closes, by which it knows.
"""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from apatite.core.errors import ConfigError, StoppedError, TrainingError
from apatite.core.stop import StopRequest

CHILD = Path(__file__).with_name("child.py")
FAILED, MISSING = "NNUNET_FAILED", "NNUNET_MISSING"

Row = dict[str, Any]

_FIX = "make an environment with `pip install nnunetv2`, and name its Python with --python"

_TICK_S = 0.2
"""How long a signal may wait until it is heard."""
_LOOK_S = 1.0
"""How often the memory is looked at."""
_TAIL_LINES = 12
_TAIL_BYTES = 20_000


class Child:
    """A verb of `child.py` at work.

    Args:
        python: The interpreter.
        verb: Of the child.
        settings: For it; plain values.
        log: What it prints is appended here.
        stop: Whether it is to be ended early.

    Raises:
        ConfigError: there is no such interpreter (`NNUNET_MISSING`).
    """

    def __init__(self, python: Path, verb: str, settings: Mapping[str, Any], log: Path, stop: StopRequest) -> None:
        self._log, self._stop, self._verb = log, stop, verb
        self._is_killed = False
        self.peak_bytes: int | None = None
        """Most memory that the group held, shared pages counted once; `None` where that cannot be known."""
        self._began = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        self._reading, writing = os.pipe()
        command = [str(python), "-u", str(CHILD), verb, json.dumps(settings), str(writing)]
        try:
            with log.open("ab") as printed:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    pass_fds=(writing,),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(self._reading)
            raise ConfigError(
                f"cannot be started ({os.strerror(error.errno or 0)})",
                where=str(python),
                fix=_FIX,
                code=MISSING,
            ) from error
        finally:
            os.close(writing)

    @property
    def wall_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    def rows(self) -> Generator[Row, None, None]:
        """Its rows, as they come, until it has ended; then nothing of its group is left.

        Raises:
            StoppedError: a signal asked for it (`STOPPED`).
            TrainingError: it failed; the message has the last lines of its log (`NNUNET_FAILED`).
        """
        try:
            yield from self._rows()
        finally:
            self.kill()
        self._refuse_failure()

    def kill(self) -> None:
        """End it and whatever it started; returns when it is gone."""
        if self._is_killed:
            return
        self._is_killed = True
        # Before it is waited for: until then no other group can be given its number.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        os.close(self._reading)

    def _rows(self) -> Iterator[Row]:
        rest, is_open, looked_at = b"", True, 0.0
        while True:
            has_ended = self._has_ended()
            wait_s = 0.0 if has_ended else _TICK_S
            ready = select.select([self._reading] if is_open else [], [], [], wait_s)[0]
            if ready:
                found = os.read(self._reading, 65536)
                is_open = bool(found)
                *lines, rest = (rest + found).split(b"\n")
                yield from map(json.loads, lines)
            elif has_ended:
                return
            self._heed_signals()
            if time.monotonic() - looked_at >= _LOOK_S:
                looked_at = time.monotonic()
                self._note_memory()

    def _has_ended(self) -> bool:
        """Whether it has; it is not waited for yet, where the system can tell without (macOS cannot)."""
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._process.poll() is not None

    def _heed_signals(self) -> None:
        if self._stop.by is not None:
            raise StoppedError(
                f"stopped by {self._stop.by.name} in nnU-Net's stage {self._verb!r}; finished stages are kept",
                where=str(self._log.parent),
                fix="run the same command again",
                code="STOPPED",
            )

    def _note_memory(self) -> None:
        held = group_bytes(self._process.pid)
        if held is not None:
            self.peak_bytes = max(held, self.peak_bytes or 0)

    def _refuse_failure(self) -> None:
        code = self._process.returncode
        if code == 0:
            return
        how = f"was killed by signal {-code}, mostly for lack of memory" if code < 0 else f"ended with {code}"
        raise TrainingError(
            f"nnU-Net's stage {self._verb!r} {how}:\n{tail(self._log)}\n",
            where=str(self._log),
            fix="read that log, then run the same command again",
            code=FAILED,
        )


def ask(python: Path, stop: StopRequest) -> Row:
    """Which nnU-Net an interpreter has.

    Returns:
        Versions of `python`, `nnunetv2` and `torch`.

    Raises:
        ConfigError: there is no such interpreter, or it has no nnunetv2 (`NNUNET_MISSING`).
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = list(Child(python, "versions", {}, Path(folder) / "versions.log", stop).rows())
        except TrainingError as error:
            raise ConfigError(
                f"is no Python that can be used: {error.what}", where=str(python), fix=_FIX, code=MISSING
            ) from error
    if not found or "nnunetv2" not in found[-1]:
        raise ConfigError("nnunetv2 is not installed in this Python", where=str(python), fix=_FIX, code=MISSING)
    return found[-1]


def tail(log: Path) -> str:
    """The last lines of a log."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines[-_TAIL_LINES:] if line.strip())


def group_bytes(group: int, proc: Path = Path("/proc")) -> int | None:
    """Memory of all processes of a group, where the system tells; pages that they share are counted once."""
    if not (proc / "self" / "smaps_rollup").exists():
        return None
    return sum(_own_bytes(entry, group) for entry in proc.iterdir() if entry.name.isdigit())


def _own_bytes(entry: Path, group: int) -> int:
    """The share of one process; 0 when it is of another group, or has just ended."""
    with suppress(OSError):
        # After the name, which may hold anything: state, parent, group.
        if int((entry / "stat").read_text().rpartition(")")[2].split()[2]) == group:
            lines = (entry / "smaps_rollup").read_text().splitlines()
            return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0
