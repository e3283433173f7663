"""Work on the volumes of a batch in threads, beside what the caller does, and the diagrams of volumes seen before.

Persistence and matching are done on the processor and let go of the interpreter's lock, so threads are enough, and the
network may run meanwhile. What a job gives does not depend on how many threads there are.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import product
from typing import Final, TypeVar

import numpy as np
from jaxtyping import Float

from apatite.core.cores import num_cores
from apatite.core.errors import ApatiteError, ConfigError
from apatite.core.types import Image
from apatite.topology.diagrams import DiagramConfig, Diagrams, diagrams

Made = TypeVar("Made")
Volume = Float[np.ndarray, "depth height width"]

REMEMBERED_POINTS: Final = 4_000_000
"""Points of diagrams that are kept at most: about 130 MB."""


def volumes_of(image: Image) -> dict[str, Volume]:
    """A copy of every channel of every sample on the processor, without its gradient, by what an error calls it."""
    arrays = image.detach().cpu().numpy().copy()
    return {f"sample {n}, channel {c}": arrays[n, c] for n, c in product(*map(range, arrays.shape[:2]))}


class DiagramJobs:
    """Threads that work on volumes, and the diagrams of those volumes that come again.

    Threads are started with the first job and end with this object or the process. A copy, or the same object in a
    process forked off, starts with neither threads nor diagrams.

    Args:
        config: Of the diagrams that are remembered.
        workers: Threads; 0 for one per job, at most the cores that this process may use.

    Raises:
        ConfigError: fewer than no workers.
    """

    def __init__(self, config: DiagramConfig, workers: int = 0) -> None:
        if workers < 0:
            raise ConfigError(
                f"{workers} workers", where="topology.workers", fix="take 0 for as many as there are cores"
            )
        self.config, self.workers = config, workers
        self._here: _Here | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"config": self.config, "workers": self.workers, "_here": None}

    def submit(self, jobs: dict[str, Callable[[], Made]]) -> Callable[[], list[Made]]:
        """Begin all jobs and return at once; what is returned waits for them.

        Args:
            jobs: By what an error calls them.

        Returns:
            A function without arguments that gives what the jobs made, in their order, or raises what the first of
            them that failed raised, with the job's name.
        """
        pool = self._of_this_process().pool_of(self.workers or min(len(jobs), num_cores()))
        futures = [pool.submit(_named, name, job) for name, job in jobs.items()]
        return lambda: _results(futures)

    def remembered(self, volume: Volume) -> Diagrams:
        """The diagrams of a volume, made at most once for its content while there is room."""
        return self._of_this_process().memory.diagrams(volume, self.config)

    def _of_this_process(self) -> "_Here":
        # Threads and held locks of a parent are not in its fork, so nothing of them may be used there.
        if self._here is None or self._here.process != os.getpid():
            self._here = _Here()
        return self._here


@dataclass(eq=False)
class _Here:
    """What belongs to one process."""

    process: int = field(default_factory=os.getpid)
    memory: "_Memory" = field(default_factory=lambda: _Memory(REMEMBERED_POINTS))
    pool: ThreadPoolExecutor | None = None
    threads: int = 0

    def pool_of(self, threads: int) -> ThreadPoolExecutor:
        """Threads that are there, or more of them; the fewer ones end when their jobs are done."""
        if self.pool is None or self.threads < threads:
            if self.pool is not None:
                self.pool.shutdown(wait=False)
            self.pool, self.threads = ThreadPoolExecutor(threads, thread_name_prefix="topology"), threads
        return self.pool


class _Memory:
    """Diagrams by the content of their volume; those not asked for longest give way."""

    def __init__(self, most_points: int) -> None:
        self.most_points, self.points = most_points, 0
        self.found: OrderedDict[bytes, Diagrams] = OrderedDict()
        self.in_making: dict[bytes, Future[Diagrams | None]] = {}
        self.lock = threading.Lock()

    def diagrams(self, volume: Volume, config: DiagramConfig) -> Diagrams:
        """Remembered, or from the thread that is making them just now, or made here."""
        key = _content(volume)
        with self.lock:
            if key in self.found:
                self.found.move_to_end(key)
                return self.found[key]
            awaited = self.in_making.get(key)
            if awaited is None:
                self.in_making[key] = Future()
        if awaited is not None:
            return awaited.result() or diagrams(volume, config)
        return self._made(key, volume, config)

    def _made(self, key: bytes, volume: Volume, config: DiagramConfig) -> Diagrams:
        made: Diagrams | None = None
        try:
            made = diagrams(volume, config)
            return made
        finally:
            with self.lock:
                ours = self.in_making.pop(key)
                if made is not None:
                    self._keep(key, made)
            # Nothing, where it failed here: who waits finds out the same by himself.
            ours.set_result(made)

    def _keep(self, key: bytes, made: Diagrams) -> None:
        self.found[key] = made
        self.points += _num_points(made)
        while self.points > self.most_points:
            self.points -= _num_points(self.found.popitem(last=False)[1])


def _content(volume: Volume) -> bytes:
    """Of shape, type and every bit."""
    digest = blake2b(f"{volume.shape} {volume.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(volume).data)
    return digest.digest()


def _num_points(found: Diagrams) -> int:
    """One more per volume: what has no points takes room, too."""
    return 1 + sum(len(diagram.births) for diagram in found)


def _named(name: str, job: Callable[[], Made]) -> Made:
    with _naming(name):
        return job()


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """An error that leaves the block says whose it is."""
    try:
        yield
    except ApatiteError as error:
        error.where = f"{name}: {error.where}" if error.where else name
        raise
    except Exception as error:
        error.add_note(name)
        raise


def _results(futures: list[Future[Made]]) -> list[Made]:
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
