"""Files are decoded in a limited child process, so that a bad one costs one file and not the program.

Codecs are native code: some damaged files abort them, make them hang, or ask for all memory. A child that dies, hangs
or answers nonsense is a refusal of the one file it was at; a new child goes on with the next.

Source: docs/explanation/dicom.md has the measured rate at which damaged files kill a decoder.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from apatite.core.errors import ApatiteError
from apatite.core.reasons import REASONS
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.pipe import Pipe, PipeBrokenError, PipeLateError
from apatite.io.dicom.pixels import Pixels

T = TypeVar("T")
_BATCH = 64
"""Files per message; while one is read here, the child is at the next."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_TYPES = {"int16": np.dtype(np.int16), "float32": np.dtype(np.float32)}


class Decoder:
    """The child process, started when it is first needed; use it as a context.

    Args:
        limits: Caps of reading, also those of the process.
    """

    def __init__(self, limits: ReadLimits | None = None) -> None:
        self.limits = limits or ReadLimits()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Pipe | None = None
        self.num_started = 0

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.close()

    def close(self) -> None:
        """End the child."""
        process, self._process, self._pipe = self._process, None, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def headers(self, paths: Sequence[Path]) -> Iterator[list[Header] | Refusal]:
        """The headers of each file (one per frame), or why it cannot be used, in the order given."""

        def understand(at: int, values: dict[str, Any], _: bytearray) -> list[Header] | Refusal:
            if "refusal" in values:
                return _refusal(values["refusal"], paths[at])
            return [_header_type().validate_python({**plain, "path": paths[at]}) for plain in values["headers"]]

        requests = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - Path.absolute keeps `..`
        return self._answers("headers", requests, list(paths), understand)

    def pixels(self, headers: Sequence[Header]) -> Iterator[Pixels | Refusal]:
        """Each image in HU, or why it cannot be had, in the order given."""

        def understand(at: int, values: dict[str, Any], content: bytearray) -> Pixels | Refusal:
            if "refusal" in values:
                return _refusal(values["refusal"], headers[at].path)
            return _pixels(values, content, headers[at])

        requests = [[os.path.abspath(header.path), header.frame] for header in headers]  # noqa: PTH100
        return self._answers("pixels", requests, [header.path for header in headers], understand)

    def _answers(
        self,
        verb: str,
        requests: list[Any],
        paths: list[Path],
        understand: Callable[[int, dict[str, Any], bytearray], T | Refusal],
    ) -> Iterator[T | Refusal]:
        """One answer per request, whatever happens to the child."""
        at = 0
        while at < len(requests):
            batch, done = requests[at : at + _BATCH], 0
            try:
                pipe = self._started()
                pipe.send({"verb": verb, "items": batch}, wait_s=self.limits.wall_s)
                while done < len(batch):
                    answer = understand(at + done, *pipe.receive(self.limits.wall_s))
                    done += 1
                    yield answer
            except PipeLateError:
                self.close()
                yield _dead("DECODER_TIMEOUT", paths[at + done])
                done += 1
            except (PipeBrokenError, KeyError, TypeError, ValueError):
                is_out_of_time = self._ended_by() == signal.SIGXCPU
                self.close()
                yield _dead("DECODER_TIMEOUT" if is_out_of_time else "DECODER_CRASH", paths[at + done])
                done += 1
            finally:
                # Whoever stops listening leaves answers in the pipe that the next request must not take for its own.
                if done < len(batch):
                    self.close()
            at += done

    def _ended_by(self) -> int:
        """The signal that ended the child; 0 where none did."""
        if self._process is None:
            return 0
        try:
            return max(0, -self._process.wait(timeout=1.0))
        except subprocess.TimeoutExpired:
            return 0

    def _started(self) -> Pipe:
        """The pipe to a child that has said that it is ready.

        Raises:
            ApatiteError: no child can be started at all, which is no fault of a file.
        """
        if self._pipe is not None:
            return self._pipe
        limits = json.dumps(asdict(self.limits))
        # -P: nothing is imported from the folder that happens to be the current one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "apatite.io.dicom.child_loop", limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
        )
        self.num_started += 1
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pipe = Pipe(self._process.stdout.fileno(), self._process.stdin.fileno())
        try:
            pipe.receive(self.limits.wall_s)
        except (PipeBrokenError, PipeLateError):
            self.close()
            raise ApatiteError(
                "the process that decodes DICOM files does not start",
                fix="check the memory limits of this machine, and the installation with `apatite doctor`",
                code="INTERNAL",
            ) from None
        self._pipe = pipe
        return pipe


@cache
def _header_type() -> Any:
    """Checks the types of what the child says, so that nonsense does not go on as a header."""
    return TypeAdapter(Header)


def _dead(code: str, path: Path) -> Refusal:
    what = "decoding took too long" if code == "DECODER_TIMEOUT" else "decoding ended the process that did it"
    return Refusal(code=code, what=what, path=path)


def _refusal(plain: dict[str, str], path: Path) -> Refusal:
    if plain["code"] not in REASONS:
        raise ValueError("no code of ours")
    return Refusal(
        code=plain["code"],
        what=str(plain["what"]),
        path=path,
        tag=str(plain["tag"]),
        series_uid=str(plain["series_uid"]),
    )


def _pixels(values: dict[str, Any], content: bytearray, header: Header) -> Pixels | Refusal:
    shape, dtype = (header.rows, header.columns), _TYPES[values["type"]]
    if tuple(values["shape"]) != shape or values["sop_uid"] != header.sop_uid:
        return Refusal(code="IO_ERROR", what="the file was replaced while it was read", path=header.path)
    size = shape[0] * shape[1]
    num_padding = (size + 7) // 8 if values["has_padding"] else 0
    if len(content) != size * dtype.itemsize + num_padding:
        raise ValueError("another length than announced")
    hu = np.frombuffer(content, dtype, size).reshape(shape)
    packed = np.frombuffer(content, np.uint8, offset=size * dtype.itemsize)
    is_padding = np.unpackbits(packed, count=size).reshape(shape).astype(bool) if num_padding else None
    return Pixels(hu=hu, is_padding=is_padding, is_clipped=bool(values["is_clipped"]), sop_uid=header.sop_uid)
