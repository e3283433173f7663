"""A folder is held by one process at a time; the second one is told who holds it.

A lease is a file made with `O_EXCL`, which also network file systems honour (locks are not reliable there). Its holder
touches it every 10 seconds. A lease counts as left behind when its holder is known to be dead (same machine, same
boot, same process namespace, no such process), or when it has not been touched for 60 seconds; time is read from the
file system itself, so clocks of two machines need not agree.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from apatite.core.commit import commit_text
from apatite.core.errors import BusyError, StorageError

HEARTBEAT_S = 10.0
EXPIRY_S = 60.0
FILE = "lease.json"


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
        """This process."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            pid=pid,
            place=_place(),
            started_ticks=_started_ticks(pid),
            verb=verb,
            nonce=uuid.uuid4().hex,
        )

    def is_dead(self) -> bool:
        """True where it is certain that the process is gone; never guessed for another machine."""
        if not self.place or self.place != _place():
            return False
        return _started_ticks(self.pid) != self.started_ticks

    def __str__(self) -> str:
        return f"`apatite {self.verb}`, process {self.pid} on {self.host}"


@contextmanager
def hold(folder: Path, verb: str) -> Iterator[Holder]:
    """Hold a folder for the time of the block.

    Args:
        folder: Made when missing.
        verb: What is done in it, for the message that others get.

    Raises:
        BusyError: another process holds it; the message names it (`LEASE_HELD`).
        StorageError: the folder cannot be written to.
    """
    holder = Holder.here(verb)
    path = folder / FILE
    is_new = not folder.exists()
    _take(path, holder)
    done = threading.Event()
    pulse = threading.Thread(target=_beat, args=(path, done), daemon=True, name="lease")
    pulse.start()
    try:
        yield holder
    finally:
        done.set()
        pulse.join()
        found = read_holder(path)
        if found is not None and found.nonce == holder.nonce:
            path.unlink(missing_ok=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()  # nothing came of it


def read_holder(path: Path) -> Holder | None:
    """Who is named in a lease file; `None` where there is none, or it was torn by a full disk."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _take(path: Path, holder: Holder) -> None:
    """Make the lease, after clearing away one that was left behind."""
    for _ in range(3):
        if _make(path, holder):
            return
        found = read_holder(path)
        if found is not None and not found.is_dead() and _silence_s(path) < EXPIRY_S:
            raise _busy(path, found)
        if found is None and _silence_s(path) < EXPIRY_S and path.exists():
            # Its maker may be between making and writing it.
            time.sleep(0.05)
            continue
        _clear(path, found)
    raise _busy(path, read_holder(path))


def _make(path: Path, holder: Holder) -> bool:
    """Whether the lease is now ours: it appears whole, under its name, or not at all."""
    whole = path.with_name(f".{path.name}.{holder.nonce}")
    commit_text(whole, json.dumps(asdict(holder)))
    try:
        # A link fails where the name is taken; unlike a rename it never replaces.
        os.link(whole, path)
    except FileExistsError:
        return False
    except OSError:
        return _make_without_links(path, holder)
    finally:
        whole.unlink(missing_ok=True)
    return True


def _make_without_links(path: Path, holder: Holder) -> bool:
    """The same where the file system knows no hard links."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError("cannot be held", where=str(path), fix="choose a folder you may write to") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(holder)))
    return True


def _clear(path: Path, found: Holder | None) -> None:
    """Move a dead lease away; one that a quicker process has made meanwhile is put back."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    moved = read_holder(aside)
    if moved != found:
        os.link(aside, path)
    aside.unlink(missing_ok=True)


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        if path.exists():
            os.utime(path)


def _silence_s(path: Path) -> float:
    """Seconds since a lease was touched, by the clock of the file system that holds it."""
    probe = path.with_name(f".{path.name}.now-{uuid.uuid4().hex}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


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
