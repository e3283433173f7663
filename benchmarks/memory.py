"""The most memory that a piece of work held, measured in a process that does nothing else."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

MakeWork = Callable[..., Callable[[], Any]]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of a fresh process.

    Attributes:
        before_bytes: After imports and preparation, before the work.
        peak_bytes: At its highest.
    """

    before_bytes: int
    peak_bytes: int

    @property
    def added_bytes(self) -> int:
        """What the work itself needed on top of what it was given."""
        return self.peak_bytes - self.before_bytes


def peak_memory(
    make_work: MakeWork, *arguments: Any, threads: int = 2, times: int = 2, limit_bytes: int | None = None
) -> Memory | None:
    """Run a piece of work in a fresh process and return its memory; `None` when it did not fit.

    Args:
        make_work: A function at the top level of its script; with the arguments it prepares (models, data) and
            returns the work, a function without arguments.
        arguments: Plain values: numbers, text, tuples.
        threads: For torch, in that process.
        times: How often the work is done; the second training step also holds the optimiser's state.
        limit_bytes: Address space the process may use; by default what is free now, less 1 GiB.

    Raises:
        RuntimeError: it failed for another reason than memory.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    limit = limit_bytes or _free_bytes() - (1 << 30)
    child = context.Process(target=_measure, args=(theirs, make_work, arguments, threads, times, limit))
    child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        answer = None  # killed, as the system does when memory runs out
    child.join()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return Memory(before_bytes=answer[0], peak_bytes=answer[1]) if answer else None


def _measure(
    connection: Connection, make_work: MakeWork, arguments: tuple, threads: int, times: int, limit: int
) -> None:
    torch.set_num_threads(threads)
    try:
        work = make_work(*arguments)
        before = _status_bytes("VmRSS")
        # Set only now: reserved addresses of the imports are no memory, and would be counted.
        reserved = _status_bytes("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (reserved + limit, resource.RLIM_INFINITY))
        for _ in range(times):
            work()
        connection.send((before, _status_bytes("VmHWM")))
    except (MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
        connection.send(None if is_memory else f"{type(error).__name__}: {error}")


def _status_bytes(field: str) -> int:
    """A field of the process's own status; the high-water mark of getrusage would include the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _free_bytes() -> int:
    listing = Path("/proc/meminfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 8 << 30
