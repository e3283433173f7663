"""What a case of the tests does: most write a file, some misbehave. Workers import it, so it is a module of its own."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from apatite.core.errors import DataError, StorageError

CANARY = "DOE^JANE 1931-02-03"


class Panic(BaseException):
    """As a library written in Rust raises it."""


def work(case: dict[str, Any], folder: Path) -> list[str]:
    """Note that it was begun, do the deed, and leave a file that depends on the case alone."""
    if "log" in case:
        with Path(case["log"]).open("a") as log:
            log.write(f"{case['number']} {os.getpid()}\n")
    deed = case.get("deed", "")
    if deed:
        (folder / "begun.txt").write_text("a start")
        DEEDS[deed](case)
    (folder / "deep").mkdir()
    (folder / "deep" / "number.txt").write_text(f"{case['number'] ** 2}")
    return ["TILT", "GAP", "TILT"] if case["number"] % 2 else []


def bad(case: dict[str, Any]) -> None:
    raise DataError("holds values that are not finite", where=f"case {case['number']}", fix="f", code="NONFINITE")


def error(case: dict[str, Any]) -> None:
    raise RuntimeError(f"cannot parse {CANARY}")


def panic(case: dict[str, Any]) -> None:
    raise Panic(CANARY)


def kill(case: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(case: dict[str, Any]) -> None:
    """With a process of its own, which must not outlive it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.run([sys.executable, "-c", "import time; time.sleep(99)", str(case["number"]), "grandchild"], check=True)


def eat(case: dict[str, Any]) -> None:
    case["eaten"] = bytearray(3 * 2**30)


def slow(case: dict[str, Any]) -> None:
    time.sleep(case["seconds"])


def once(case: dict[str, Any]) -> None:
    """Die at the first attempt only."""
    if not Path(case["mark"]).exists():
        Path(case["mark"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def full_disk(case: dict[str, Any]) -> None:
    """Until somebody makes room."""
    if not Path(case["mark"]).exists():
        raise StorageError("cannot write (No space left on device)", where="x", fix="free some space", code="NO_SPACE")


def speak(case: dict[str, Any]) -> None:
    os.write(1, CANARY.encode())
    os.write(2, CANARY.encode())


DEEDS = {deed.__name__: deed for deed in (bad, error, panic, kill, hang, eat, slow, once, full_disk, speak)}


def look_around(case: dict[str, Any], folder: Path) -> list[str]:
    """Write down what a worker may do."""
    seen = {
        "address_space": resource.getrlimit(resource.RLIMIT_AS)[0],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "session": os.getsid(0),
        "pid": os.getpid(),
        "is_fork": multiprocessing.get_start_method(allow_none=True) == "fork",
        "sigterm": int(signal.getsignal(signal.SIGTERM)),
        **{f"fd{number}": Path(f"/proc/self/fd/{number}").readlink() for number in range(3)},
    }
    (folder / "seen.txt").write_text("".join(f"{name}={value}\n" for name, value in seen.items()))
    return []


class Unloadable:
    """A task that no other process can make."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _end, (os.getpid(),)

    def __call__(self, case: dict[str, Any], folder: Path) -> list[str]:
        return []


def _end(parent: int) -> Unloadable:
    if os.getpid() != parent:
        os._exit(3)
    return Unloadable()
