"""A file of a package is a regular file, and opening it can neither hang nor lead elsewhere.

Opening a pipe waits for a writer, a device never ends, and a link leads out of the folder that was sealed.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path

from apatite.core.errors import ModelError

# Absent on some systems, where 0 changes nothing.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading bytes.

    Raises:
        ModelError: it is missing, may not be read, or is a link, folder, pipe or device (`IO_ERROR`).
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        is_link = path.is_symlink()
        raise ModelError(
            "is a link" if is_link else "cannot be read",
            where=str(path),
            fix="copy the file itself there" if is_link else "check the path and its permissions",
            code="IO_ERROR",
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelError("is not a regular file", where=str(path), fix="copy the file itself there", code="IO_ERROR")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        ModelError: as `open_regular`, or it is longer (`TOO_LARGE`).
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise ModelError(
                f"is over {limit} bytes", where=str(path), fix="copy or make the file again", code="TOO_LARGE"
            )
        return file.read(limit)
