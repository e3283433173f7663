"""A folder is held by one process at a time; the second one is told who holds it.

A lease is a file that is made only where there is none, which also network file systems do reliably (locks are not
reliable there). Its holder touches it every 10 seconds. A lease is left behind when its process is known to be gone
(same machine, same boot, same process namespace), or, where that cannot be known, when it was not touched for 60
seconds; time is read from the file system itself, so clocks of two machines need not agree.

Of several processes that find a lease left behind, one may succeed it: the one that holds the lease on doing so,
which bears the old lease's own name. A holder that was silent for too long may find that it was succeeded; it has to
ask, with `Lease.require`, before it writes.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from apatite.core.commit import age_s, commit_once, commit_text
from apatite.core.errors import BusyError

HEARTBEAT_S = 10.0
EXPIRY_S = 60.0
FILE = "lease.json"

_TRIES = 20
"""How often to look again, where a lease changes while it is looked at."""
_PAUSE_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a folder.

    Attributes:
        host, pid: Where and which process.
        place: Boot and process namespace: only where they are equal does a process number mean the same process.
        started_ticks: When the process was started, in ticks since boot; process numbers are used again.
        verb: What it does.
        nonce: Of this one lease.
    """

    host: str
    pid: int
    place: str
    started_ticks: int
    verb: str
    nonce: str

    @classmethod
    def here(cls, verb: str) -> "Holder":
        """The process that asks."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            pid=pid,
            place=_place(),
            started_ticks=_started_ticks(pid),
            verb=verb,
            nonce=uuid.uuid4().hex,
        )

    def is_near(self) -> bool:
        """True where it can be known whether the process lives."""
        return bool(self.place) and (self.host, self.place) == (socket.gethostname(), _place())

    def is_dead(self) -> bool:
        """True where it is certain that the process is gone; never guessed for another machine."""
        return self.is_near() and not _is_hidden(self.pid) and _started_ticks(self.pid) != self.started_ticks

    def to_json(self) -> str:
        """What a lease file holds."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return f"`apatite {self.verb}`, process {self.pid} on {self.host}"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A folder that is held.

    Attributes:
        path: The file.
        holder: Who made it.
    """

    path: Path
    holder: Holder

    def is_ours(self) -> bool:
        """Whether the file is still the one that was made."""
        found = read_holder(self.path)
        return found is not None and found.nonce == self.holder.nonce

    def require(self) -> None:
        """Refuse to go on in a folder that another process was given; a file that somebody removed is made again.

        Raises:
            BusyError: this process was silent for so long that it was taken for dead (`LEASE_LOST`).
        """
        if self.is_ours() or commit_once(self.path, self.holder.to_json()):
            return
        found = read_holder(self.path)
        raise BusyError(
            f"was taken over by {'another process' if found is None else found} while this one was halted",
            where=str(self.path.parent),
            fix="let that one finish, or stop it and resume",
            code="LEASE_LOST",
        )


@contextmanager
def hold(folder: Path, verb: str) -> Iterator[Lease]:
    """Hold a folder for the time of the block.

    Args:
        folder: Made when missing.
        verb: What is done in it, for the message that others get.

    Raises:
        BusyError: another process holds it; the message names it (`LEASE_HELD`).
        StorageError: the folder cannot be written to.
    """
    lease = Lease(path=folder / FILE, holder=Holder.here(verb))
    is_new = not folder.exists()
    _take(lease.path, lease.holder)
    done = threading.Event()
    pulse = threading.Thread(target=_beat, args=(lease, done), daemon=True, name="lease")
    pulse.start()
    try:
        _tidy(lease.path)
        yield lease
    finally:
        done.set()
        pulse.join()
        _release(lease)
        if is_new:
            with suppress(OSError):  # it is not empty, as a rule
                folder.rmdir()


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder now; a lease that was left behind does not count."""
    path = folder / FILE
    return path.exists() and not _is_left_behind(path, read_holder(path))


def read_holder(path: Path) -> Holder | None:
    """Who is named in a lease file; `None` where there is none, or it is torn."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _take(path: Path, holder: Holder) -> None:
    """Make the lease, or succeed one that was left behind."""
    found = None
    for _ in range(_TRIES):
        if commit_once(path, holder.to_json()):
            return
        mark, found = _mark(path), read_holder(path)
        if _is_left_behind(path, found):
            if _succeed(path, mark, holder):
                return
        elif found is not None:
            raise _busy(path, found)
        else:
            # Given back just now; or made, and not yet written, where there are no hard links.
            time.sleep(_PAUSE_S)
    raise _busy(path, found)


def _succeed(path: Path, mark: str, holder: Holder) -> bool:
    """Put a lease in the place of the one that was left behind; False where it is not there any more.

    Whoever holds the lease on succeeding that very one is alone in replacing it, and finds it unchanged or gone: its
    mark never comes back. One that is itself left behind, by a process killed right here, is succeeded likewise.
    """
    turn = path.with_name(f".{path.name}.after-{mark}")
    _take(turn, holder)
    try:
        if _mark(path) != mark or not _is_left_behind(path, read_holder(path)):
            return False
        commit_text(path, holder.to_json())
        return True
    finally:
        _release(Lease(path=turn, holder=holder))


def _is_left_behind(path: Path, found: Holder | None) -> bool:
    if found is not None and found.is_near():
        return found.is_dead()
    return age_s(path) >= EXPIRY_S


def _mark(path: Path) -> str:
    """What tells one lease from any other that was ever made at this path; empty where there is none."""
    found = read_holder(path)
    if found is not None:
        return found.nonce
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return f"{status.st_ino}-{status.st_mtime_ns}"


def _release(lease: Lease) -> None:
    """Give a lease back, unless it was lost."""
    if lease.is_ours():
        with suppress(OSError):  # one that stays is seen to be left behind
            lease.path.unlink()


def _tidy(path: Path) -> None:
    """Remove what processes killed while taking leases left here; younger files are of those that are at it now."""
    for left in list(path.parent.glob(f".*{path.name}.*")):
        if age_s(left) >= EXPIRY_S:
            left.unlink(missing_ok=True)


def _beat(lease: Lease, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        # A disk that is gone for a moment is no reason to fall silent for ever.
        with suppress(OSError):
            if lease.is_ours():
                os.utime(lease.path)


def _busy(path: Path, found: Holder | None) -> BusyError:
    who = "another process" if found is None else str(found)
    return BusyError(
        f"is held by {who}",
        where=str(path.parent),
        fix="wait for it or stop it; a lease that was left behind ends by itself after a minute",
        code="LEASE_HELD",
    )


def _place() -> str:
    """Boot and process namespace; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started_ticks(pid: int) -> int:
    """When a process was started; -1 where there is none (or it is a zombie, which writes nothing any more)."""
    try:
        # The command's name, in brackets, may itself hold spaces and brackets.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return -1
    return -1 if state in {"Z", "X"} else int(fields[18])


def _is_hidden(pid: int) -> bool:
    """Whether there is a process of another user that /proc does not show, as on some shared machines."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False
