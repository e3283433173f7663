"""The one way in which Apatite writes a file: whole, or not at all.

A temporary name in the destination folder, write, flush, fsync, read back, rename, fsync of the folder. A process
killed at any moment leaves the old file or the new one, never a torn one. Nothing else in the package writes files.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from apatite.core.errors import DataError, StorageError

Verify = Callable[[Path], None]

_PART = ".part-"
"""In every temporary name."""


@contextmanager
def committed(path: Path, verify: Verify | None = None) -> Iterator[Path]:
    """Give a temporary path to write to; on leaving, make it `path` in one step.

    Args:
        path: The final file. Its folder is made when missing.
        verify: Reads the finished temporary file back and raises if it is not what was meant.

    Raises:
        StorageError: the disk is full (`NO_SPACE`), read-only (`READ_ONLY`) or failing (`IO_ERROR`).
    """
    part = _part_beside(path)
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            _sync(part)
            if verify is not None:
                verify(part)
            part.replace(path)
            _sync(path.parent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def committed_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on leaving, make it `folder` in one rename.

    Raises:
        StorageError: as `committed`.
        DataError: `folder` exists already; nothing is ever overwritten.
    """
    if folder.exists():
        raise DataError("the folder exists already", where=str(folder), fix="name a new one, or remove it first")
    part = _part_beside(folder)
    with _storage_errors(folder):
        part.mkdir(parents=True)
        try:
            yield part
            # The folders too: a file is durable only when the folder that names it is.
            for entry in [*sorted(part.rglob("*")), part]:
                _sync(entry)
            part.rename(folder)
            _sync(folder.parent)
        except StorageError as error:
            # The temporary folder is gone by the time this is read.
            error.where = error.where.replace(str(part), str(folder))
            raise
        finally:
            if part.exists():
                shutil.rmtree(part)


def commit_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""

    def verify(part: Path) -> None:
        if part.read_bytes() != content:
            raise StorageError("the file read back differs from what was written", where=str(path), code="IO_ERROR")

    with committed(path, verify) as part:
        part.write_bytes(content)


def commit_text(path: Path, content: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    commit_bytes(path, content.encode())


def commit_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all. Not-a-number is refused: JSON has no word for it, so use `None`."""
    commit_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def commit_once(path: Path, content: str) -> bool:
    """Write text only where there is no such file yet: whole, or not at all.

    Of several processes that try at the same time, one succeeds; also on network file systems.

    Returns:
        Whether it was written; False where the name is taken.

    Raises:
        StorageError: as `committed`.
    """
    whole = path.with_name(f"{_waiting(path)}{uuid.uuid4().hex}")
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            whole.write_text(content, encoding="utf-8")
            _sync(whole)
            return _name_once(whole, path)
        finally:
            whole.unlink(missing_ok=True)


def age_s(path: Path) -> float:
    """Seconds since a file was touched, by the clock of the file system that holds it; 0 where it is gone.

    Raises:
        StorageError: as `committed`.
    """
    probe = path.with_name(f"{_waiting(path)}{uuid.uuid4().hex}")
    with _storage_errors(path):
        try:
            probe.touch(exist_ok=False)
            return probe.stat().st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left unfinished in a folder that nobody else writes to now.

    Raises:
        StorageError: as `committed`.
    """
    with _storage_errors(folder):
        for part in sorted(folder.rglob(f".*{_PART}*")):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def sweep_beside(path: Path) -> None:
    """Remove what killed writers of one file or folder left beside it; for who alone writes it now.

    Raises:
        StorageError: as `committed`.
    """
    with _storage_errors(path):
        for part in list(path.parent.iterdir()):
            if part.name.startswith(f".{path.name[:100]}{_PART}"):
                if part.is_dir():
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    part.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add one line to a journal and make it durable.

    The one exception to the protocol above: a journal grows. A writer killed midway leaves a torn line, which a
    reader must skip; the next line starts on its own all the same.
    """
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.seek(0, os.SEEK_END) and not _ends_a_line(file):
                file.write(b"\n")
            file.write(line.rstrip("\n").encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _part_beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}{_PART}{uuid.uuid4().hex[:12]}{''.join(path.suffixes[-2:])}")


def _waiting(path: Path) -> str:
    """How a file's name begins while it waits to be `path`; unlike a part, `sweep` leaves it alone."""
    return f".{path.name}.waiting-"


def _name_once(whole: Path, path: Path) -> bool:
    """Give a file the name, if the name is free: unlike a rename, a link never replaces."""
    try:
        os.link(whole, path)
    except FileExistsError:
        # A network file system may have made the link, lost the answer, and tried again.
        return whole.stat().st_nlink == 2
    except OSError:
        # It knows no hard links. A process killed right here leaves a torn file under the name.
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(whole.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _sync(path: Path) -> None:
    """Fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_CODES = {
    errno.ENOSPC: "NO_SPACE",
    errno.EDQUOT: "NO_SPACE",
    errno.EROFS: "READ_ONLY",
    errno.EACCES: "READ_ONLY",
    errno.EPERM: "READ_ONLY",
}
_FIXES = {
    "NO_SPACE": "free some space, then run the same command again",
    "READ_ONLY": "choose a folder you may write to with -o",
    "IO_ERROR": "check the disk or the network mount, then run the same command again",
}


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = _CODES.get(error.errno or 0, "IO_ERROR")
        raise StorageError(
            f"cannot write ({os.strerror(error.errno or errno.EIO)})", where=str(path), fix=_FIXES[code], code=code
        ) from error
