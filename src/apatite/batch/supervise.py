"""Many cases, some of them bad: each ends in one row, and none takes the others with it.

A case is worked on in a process of its own kind (`batch.worker`), under limits of time and memory. An error is its
row; so is, at the second time, the death of its process (`batch.quarantine`). Several supervisors may share a work
folder (`batch.claims`). One that is killed, stopped or starved of disk is started again with the same call: what was
committed is found, and the rest is done. The results do not depend on how many workers there are, nor on order.

    <folder>/cases/<case>/result/   what came of a case (`batch.rows`)
    <folder>/owners/                who works on the batch now
    <folder>/rows.csv, rows.jsonl   the rows, once all are there; before that, `found_rows` reads what there is
"""

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from apatite.batch.attempt import Answer, Death, Item, Task, settle
from apatite.batch.claims import CASES, OWNERS, Desk, others
from apatite.batch.crew import Crew, InPlace, Workers
from apatite.batch.lease import hold
from apatite.batch.quarantine import Queue
from apatite.batch.rows import RESULT, Row, read_done, remove, to_csv, to_jsonl
from apatite.batch.worker import CaseLimits
from apatite.core.commit import commit_text
from apatite.core.errors import ConfigError, DataError, StoppedError, StorageError
from apatite.core.stop import StopRequest, stop_on_signal
from apatite.core.watch import Watch, unwatched

T = TypeVar("T")

_TICK_S = 0.2
"""How long a signal may wait until it is heard."""
_LOOK_S = 0.5
"""How often to look what other supervisors have finished or left behind."""


def supervise(
    task: Task[T],
    items: Sequence[Item[T]],
    folder: Path,
    limits: CaseLimits = CaseLimits(),  # noqa: B008 (frozen)
    workers: int = 1,
    watch: Watch = unwatched,
) -> tuple[Row, ...]:
    """Do a task for every case.

    Args:
        task: See `batch.attempt.Task`.
        items: The cases.
        folder: The work folder; made when missing. Another process may work in it too.
        limits: What one case may take.
        workers: Processes; 0 works in this one, without limits.
        watch: Shows the progress.

    Returns:
        One row per case, in the order of `items`.

    Raises:
        ConfigError: a negative number of workers.
        DataError: a case is there twice.
        StoppedError: a signal asked to stop; the same call goes on (`STOPPED`).
        StorageError: the disk is full or failing; the same call goes on.
    """
    if workers < 0:
        raise ConfigError(f"there cannot be {workers} workers", fix="give 0 or more")
    _refuse_twice(items)
    desk = Desk(folder=folder, owner=uuid.uuid4().hex)
    crew = Workers(task, limits, workers) if workers else InPlace(task, limits)
    rows: dict[str, Row] = {}
    with stop_on_signal() as stop, hold(desk.lease_folder(), "batch"):
        shift = _Shift(desk, crew, stop, items)
        try:
            for row in watch(shift.rows(), "working on cases", len(items)):
                rows[row.case_id] = row
        finally:
            shift.close()
        ordered = tuple(rows[item.case_id] for item in items)
        commit_text(folder / "rows.csv", to_csv(ordered))
        commit_text(folder / "rows.jsonl", to_jsonl(ordered))
    _tidy(folder, items)
    return ordered


def found_rows(items: Iterable[Item[Any]], folder: Path) -> tuple[Row, ...]:
    """The rows that are there already, in the order of `items`."""
    desk = Desk(folder=folder, owner="")
    found = (read_done(desk.result(item.name)) for item in items)
    return tuple(row for row in found if row is not None)


class _Shift:
    """One supervisor at work: from a queue to rows."""

    def __init__(self, desk: Desk, crew: Crew, stop: StopRequest, items: Sequence[Item[Any]]) -> None:
        self._desk, self._crew, self._stop = desk, crew, stop
        self._items = items
        self._queue: Queue[Any] = Queue(())
        self._claimed: dict[str, Item[Any]] = {}
        self._elsewhere: dict[str, Item[Any]] = {}
        self._num_rows = 0

    def rows(self) -> Iterator[Row]:
        """Every row as soon as it is known."""
        for row in self._all():
            self._num_rows += 1
            yield row

    def close(self) -> None:
        """End what is under way, and give its cases back."""
        self._crew.close()
        for name in list(self._claimed):
            if self._desk.is_ours(name):
                self._desk.sweep(name)
            self._give_back(name)

    def _all(self) -> Iterator[Row]:
        for item in self._items:
            row = read_done(self._desk.result(item.name))
            if row is None:
                self._queue.add(item)
            else:
                yield row
        looked = time.monotonic()
        while self._queue or self._crew.in_flight() or self._elsewhere:
            self._heed_signals()
            yield from self._begin()
            for item, answer in self._crew.answers(_TICK_S):
                yield from self._judged(item, answer)
            if self._elsewhere and time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                yield from self._seen_elsewhere()

    def _begin(self) -> Iterator[Row]:
        """Begin as many cases as there are free hands."""
        while self._crew.is_free(len(self._queue)):
            item = self._queue.next(self._crew.in_flight())
            if item is None:
                return
            if item.name not in self._claimed and not self._desk.claim(item.name):
                self._elsewhere[item.name] = item
                continue
            self._claimed[item.name] = item
            row = self._found(item)
            if row is None:
                self._crew.give(item, self._desk.result(item.name), self._queue.begin(item))
            else:
                self._queue.ended(item)
                yield row

    def _found(self, item: Item[Any]) -> Row | None:
        """The row that another process committed before the case was claimed; a damaged result is removed."""
        result = self._desk.result(item.name)
        if not result.exists():
            return None
        row = read_done(result)
        if row is None:
            shutil.rmtree(result)
        else:
            self._give_back(item.name)
        return row

    def _judged(self, item: Item[Any], answer: Answer) -> Iterator[Row]:
        self._queue.ended(item)
        if isinstance(answer, StorageError):
            raise answer
        if isinstance(answer, Death):
            if self._desk.is_ours(item.name):
                self._desk.sweep(item.name)
            row = self._queue.bury(item, answer)
            if row is None:
                return
            answer = settle(self._desk.result(item.name), row)
        self._give_back(item.name)
        yield answer

    def _seen_elsewhere(self) -> Iterator[Row]:
        """What other supervisors finished; what they left behind is queued here."""
        for name, item in list(self._elsewhere.items()):
            row = read_done(self._desk.result(name))
            if row is not None:
                del self._elsewhere[name]
                yield row
            elif self._desk.claim(name):
                del self._elsewhere[name]
                self._claimed[name] = item
                self._queue.add(item)

    def _give_back(self, name: str) -> None:
        del self._claimed[name]
        if self._desk.is_ours(name):
            self._desk.release(name)

    def _heed_signals(self) -> None:
        if self._stop.by is None:
            return
        raise StoppedError(
            f"stopped by {self._stop.by.name} after {self._num_rows} of {len(self._items)} cases; what is done is kept",
            where=str(self._desk.folder),
            fix="run the same command again",
            code="STOPPED",
        )


def _refuse_twice(items: Sequence[Item[Any]]) -> None:
    twice = [case_id for case_id, count in Counter(item.case_id for item in items).items() if count > 1]
    if twice:
        raise DataError("is there twice in one batch", where=twice[0], fix="give every case a name of its own")


def _tidy(folder: Path, items: Iterable[Item[Any]]) -> None:
    """Leave nothing but results, where nobody is at work any more: killed processes left claims and leases."""
    if others(folder):
        return
    for item in items:
        for entry in list((folder / CASES / item.name).iterdir()):
            if entry.name != RESULT:
                remove(entry)
    for entry in list((folder / OWNERS).iterdir()):
        remove(entry)
