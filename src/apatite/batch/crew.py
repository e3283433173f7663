"""The workers of one supervisor: as many as there are cases to begin, replaced when they are lost.

With no worker at all the cases are done in the calling process, without limits: for tests, notebooks and small
studies, where starting processes would take longer than the work.
"""

from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from apatite.batch.attempt import Answer, Death, Item, Task, attempt
from apatite.batch.worker import CaseLimits, Worker
from apatite.core.errors import ApatiteError

_MOST_LOST_STARTS = 5
"""So many workers in a row that end before they are ready end the batch."""


@runtime_checkable
class Crew(Protocol):
    """Those who work."""

    def in_flight(self) -> int:
        """How many cases are being worked on."""
        ...

    def is_free(self, wanted: int) -> bool:
        """Whether a case can be given to them now; more of them are called in for so many that wait."""
        ...

    def give(self, item: Item[Any], result: Path, number: int) -> None:
        """Let one of them work on a case."""
        ...

    def answers(self, timeout_s: float) -> list[tuple[Item[Any], Answer]]:
        """What came of cases, waiting for the first one at most so long."""
        ...

    def close(self) -> None:
        """End what is under way."""
        ...


class InPlace:
    """The calling process itself."""

    def __init__(self, task: Task[Any], limits: CaseLimits) -> None:
        self._task, self._limits = task, limits
        self._given: tuple[Item[Any], Path, int] | None = None

    def in_flight(self) -> int:
        """One, from `give` to `answers`."""
        return int(self._given is not None)

    def is_free(self, wanted: int) -> bool:
        """Whether it has no case."""
        return bool(wanted) and self._given is None

    def give(self, item: Item[Any], result: Path, number: int) -> None:
        """Take a case; it is worked on in `answers`."""
        self._given = (item, result, number)

    def answers(self, timeout_s: float) -> list[tuple[Item[Any], Answer]]:
        """Work on the case."""
        del timeout_s
        if self._given is None:
            return []
        item, result, number = self._given
        self._given = None
        return [(item, attempt(self._task, item, result, number, self._limits.debug_folder))]

    def close(self) -> None:
        """Nothing is under way."""


class Workers:
    """Processes of their own.

    Args:
        task: What they do.
        limits: What one case may take.
        most: So many at the same time.
    """

    def __init__(self, task: Task[Any], limits: CaseLimits, most: int) -> None:
        self._task, self._limits, self._most = task, limits, most
        self._workers: list[Worker] = []
        self._lost_starts = 0

    def in_flight(self) -> int:
        """How many have a case."""
        return sum(worker.item is not None for worker in self._workers)

    def is_free(self, wanted: int) -> bool:
        """Whether one is idle; starts more, up to the number of cases that wait."""
        idle_or_starting = len(self._workers) - self.in_flight()
        for _ in range(min(self._most - len(self._workers), wanted - idle_or_starting)):
            self._workers.append(Worker(self._task, self._limits))
        return bool(wanted) and any(worker.is_idle() for worker in self._workers)

    def give(self, item: Item[Any], result: Path, number: int) -> None:
        """Let the first idle one work on a case."""
        next(worker for worker in self._workers if worker.is_idle()).give(item, result, number)

    def answers(self, timeout_s: float) -> list[tuple[Item[Any], Answer]]:
        """What came of cases; workers that are lost are let go.

        Raises:
            ApatiteError: workers do not start.
        """
        connection.wait([event for worker in self._workers for event in worker.events], timeout_s)
        found: list[tuple[Item[Any], Answer]] = []
        for worker in list(self._workers):
            answer, item = worker.poll(), worker.item
            if worker.is_ready():
                self._lost_starts = 0
            if answer is not None and item is not None:
                found.append((item, answer))
                worker.item = None
            if isinstance(answer, Death) or worker.is_lost():
                self._let_go(worker)
        return found

    def close(self) -> None:
        """End all of them at once, with what they work on."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _let_go(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._lost_starts += not worker.is_ready()
        worker.kill()
        if self._lost_starts >= _MOST_LOST_STARTS:
            raise ApatiteError(
                f"{self._lost_starts} worker processes in a row ended before they were ready",
                fix="allow more memory per case, or work in one process with --workers 0",
                code="WORKER_KILLED",
            )
