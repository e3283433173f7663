"""Many cases in several processes: results in order, bounded memory, and one bad case costs only itself.

A worker that is killed breaks its whole pool; the cases that were in flight are then tried again one by one, each in
a pool of its own, so that the one which kills is named and the others are kept.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from apatite.core.errors import DataError
from apatite.io.manifest import Case

R = TypeVar("R")

IN_FLIGHT = 4
"""Cases that wait per worker: results are no further ahead than this."""


def run_each(task: Callable[[Case], R], cases: Sequence[Case], workers: int) -> Iterator[R | DataError]:
    """Do a task for every case.

    Args:
        task: Can be sent to another process.
        cases: What it is done for.
        workers: 1 stays in this process.

    Yields:
        One result per case, in order; the error where a case is bad.
    """
    if workers <= 1:
        for case in cases:
            yield _guarded(task, case)
        return
    done = 0
    while done < len(cases):
        try:
            for result in _pooled(task, cases[done:], workers):
                done += 1
                yield result
        except BrokenProcessPool:
            yield _alone(task, cases[done])
            done += 1


def _pooled(task: Callable[[Case], R], cases: Sequence[Case], workers: int) -> Iterator[R | DataError]:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[R | DataError]] = deque()
        try:
            for case in cases:
                waiting.append(pool.submit(_guarded, task, case))
                if len(waiting) >= IN_FLIGHT * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _alone(task: Callable[[Case], R], case: Case) -> R | DataError:
    try:
        return next(_pooled(task, [case], 1))
    except BrokenProcessPool:
        return DataError(
            "killed the process that read it", where=case.case_id, fix="look at this file", code="WORKER_KILLED"
        )


def _guarded(task: Callable[[Case], R], case: Case) -> R | DataError:
    try:
        return task(case)
    except DataError as error:
        return error
