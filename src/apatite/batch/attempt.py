"""One attempt at one case: it ends in a committed row, in the death of the process, or in a disk that fails.

An error of the task is the row of that case. What is no error of Apatite gives the code `INTERNAL` and no text, for
such texts quote headers; the traceback goes to a file for its owner's eyes, and only where that was asked for.
"""

import errno
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from apatite.batch.rows import Row, failed, read_done, remove, write_done
from apatite.core.commit import committed, committed_folder
from apatite.core.errors import ApatiteError, StorageError
from apatite.core.reasons import REASONS

T = TypeVar("T")

Task: TypeAlias = Callable[[T, Path], Sequence[str]]
"""Writes what a case gives into an empty folder, and returns the flags that go with it.

It must not depend on which process runs it, or after which other case. It can be sent to another process: a function
of a module, or a dataclass of plain values with `__call__`.
"""


@dataclass(frozen=True, kw_only=True)
class Item(Generic[T]):
    """One case of a batch.

    Attributes:
        case_id: Unique within the batch; usable as a file name.
        value: What the task is given.
        version: Changes when input or settings do; a result of another version does not count. Usable in a file name.
    """

    case_id: str
    value: T
    version: str = ""

    @property
    def name(self) -> str:
        """Of the folder with its result."""
        return f"{self.case_id}.{self.version}" if self.version else self.case_id


@dataclass(frozen=True, kw_only=True)
class Death:
    """An attempt that ended without a row.

    Attributes:
        code: `OOM`, `DEADLINE` or `WORKER_KILLED`.
        elapsed_s: How long it took.
    """

    code: str
    elapsed_s: float


Answer: TypeAlias = Row | Death | StorageError


def attempt(task: Task[T], item: Item[T], result: Path, number: int, debug_folder: Path | None) -> Answer:
    """Try one case and commit what it gives.

    Args:
        task: What to do.
        item: For which case.
        result: The folder that will hold the row and what the task wrote.
        number: Which attempt it is, from 1.
        debug_folder: Where a traceback goes; `None` for nowhere.

    Returns:
        The row; or the error of a disk that fails, which is not the case's fault.
    """
    began = time.monotonic()
    try:
        with committed_folder(result) as part:
            row = _tried(task, item, part, number, debug_folder)
            row = replace(row, elapsed_s=round(time.monotonic() - began, 3))
            write_done(part, row)
        return row
    except MemoryError:
        return Death(code="OOM", elapsed_s=time.monotonic() - began)
    except ApatiteError as error:
        # Another process may have settled the case meanwhile.
        found = read_done(result)
        if found is not None:
            return found
        return error if isinstance(error, StorageError) else failed(item.case_id, error, 0.0, number)


def settle(result: Path, row: Row) -> Row:
    """Commit the row of a case that has no result; or return the one that lies there already.

    Raises:
        StorageError: as `core.commit.committed_folder`.
    """
    try:
        with committed_folder(result) as part:
            write_done(part, row)
        return row
    except ApatiteError:
        found = read_done(result)
        if found is None:
            raise
        return found


def _tried(task: Task[T], item: Item[T], part: Path, number: int, debug_folder: Path | None) -> Row:
    try:
        flags = task(item.value, part)
        return Row(case_id=item.case_id, verdict="done", attempts=number, flags=tuple(sorted(set(flags))))
    except (StorageError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except ApatiteError as error:
        row = failed(item.case_id, error, 0.0, number)
    except BaseException as error:
        # Not `Exception`: the panic of a library written in Rust is none.
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise MemoryError from error
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        _keep_traceback(item.name, debug_folder)
        row = failed(item.case_id, _internal(item.case_id, error), 0.0, number)
    for entry in list(part.iterdir()):
        remove(entry)
    return row


def _internal(case_id: str, error: BaseException) -> ApatiteError:
    return ApatiteError(
        f"{REASONS['INTERNAL'][1]} ({type(error).__name__})",
        where=case_id,
        fix="run it again with --debug, and report the traceback that is written then",
        code="INTERNAL",
    )


def _keep_traceback(name: str, debug_folder: Path | None) -> None:
    if debug_folder is None:
        return
    with committed(debug_folder / f"{name}.txt") as part:
        part.touch(mode=0o600)
        part.write_text(traceback.format_exc(), encoding="utf-8")
