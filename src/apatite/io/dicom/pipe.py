"""Messages between two processes: a JSON text and raw bytes behind it, each announced by its length.

Nothing is unpickled, no length is believed beyond a cap, and whoever waits does so until a deadline only.
"""

import json
import os
import select
import struct
import time
from typing import Any

MAX_TEXT = 64 * 2**20
MAX_BYTES = 2**28
_LENGTHS = struct.Struct(">II")


class PipeBrokenError(Exception):
    """The other end is gone, or does not keep to the protocol."""


class PipeLateError(Exception):
    """The other end did not answer in time."""


class Pipe:
    """Two file descriptors: one to read from, one to write to."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self.read_from, self.write_to = read_from, write_to
        os.set_blocking(read_from, False)
        os.set_blocking(write_to, False)

    def send(self, values: dict[str, Any], content: bytes = b"", wait_s: float | None = None) -> None:
        """Write one message.

        Raises:
            PipeBrokenError, PipeLateError: as the names say.
        """
        text = json.dumps(values).encode("ascii")
        view = memoryview(_LENGTHS.pack(len(text), len(content)) + text + content)
        until = None if wait_s is None else time.monotonic() + wait_s
        while view:
            _wait(self.write_to, select.POLLOUT, until)
            try:
                view = view[os.write(self.write_to, view) :]
            except BlockingIOError:
                continue
            except OSError:
                raise PipeBrokenError from None

    def receive(self, wait_s: float | None = None) -> tuple[dict[str, Any], bytearray]:
        """Read one message.

        Raises:
            PipeBrokenError, PipeLateError: as the names say.
        """
        until = None if wait_s is None else time.monotonic() + wait_s
        num_text, num_bytes = _LENGTHS.unpack(self._read(_LENGTHS.size, until))
        if num_text > MAX_TEXT or num_bytes > MAX_BYTES:
            raise PipeBrokenError
        text = self._read(num_text, until)
        content = self._read(num_bytes, until)
        try:
            values = json.loads(text.decode("ascii"))
        except (ValueError, RecursionError):
            raise PipeBrokenError from None
        if not isinstance(values, dict):
            raise PipeBrokenError
        return values, content

    def _read(self, size: int, until: float | None) -> bytearray:
        content = bytearray(size)
        view = memoryview(content)
        while view:
            _wait(self.read_from, select.POLLIN, until)
            try:
                count = os.readv(self.read_from, [view])
            except BlockingIOError:
                continue
            except OSError:
                raise PipeBrokenError from None
            if not count:
                raise PipeBrokenError
            view = view[count:]
        return content


def _wait(descriptor: int, event: int, until: float | None) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left_ms = None if until is None else max(0.0, until - time.monotonic()) * 1000
    if not poll.poll(left_ms):
        raise PipeLateError
