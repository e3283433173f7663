"""The child process: it takes limits on itself, answers requests one by one, and ends with its parent.

It is started by `child.Decoder` and by nothing else. It writes no file, and says nothing but its answers.
"""

import json
import logging
import os
import resource
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from apatite.io.dicom.header import Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.parse import parse_headers
from apatite.io.dicom.pipe import Pipe, PipeBrokenError
from apatite.io.dicom.pixels import PixelReader

Answer = tuple[dict[str, Any], bytes]


def main() -> None:
    """Answer until the parent closes its end."""
    limits = ReadLimits(**json.loads(sys.argv[1]))
    # A library that prints must not reach the pipe.
    answers = os.dup(1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    _limit(limits)
    pipe = Pipe(0, answers)
    pipe.send({"is_ready": True})
    while True:
        try:
            request, _ = pipe.receive()
        except PipeBrokenError:
            return
        reader = PixelReader(limits)
        for item in request["items"]:
            _renew_cpu(limits)
            pipe.send(*(_headers(item, limits) if request["verb"] == "headers" else _pixels(item, reader)))


def _limit(limits: ReadLimits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        # Elsewhere the address space cannot be limited.
        resource.setrlimit(resource.RLIMIT_AS, (limits.address_bytes, limits.address_bytes))


def _renew_cpu(limits: ReadLimits) -> None:
    """Give the next file its own CPU seconds; whole ones, as the system counts."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_s, hard))


def _headers(item: str, limits: ReadLimits) -> Answer:
    path = Path(item)
    try:
        found = parse_headers(path, limits)
    except MemoryError:
        found = Refusal(code="TOO_LARGE", what="the header needs more memory than allowed", path=path)
    except Exception:
        found = Refusal(code="INTERNAL", what="the header made Apatite itself fail", path=path)
    if isinstance(found, Refusal):
        return _refused(found), b""
    return {"headers": [{**asdict(header), "path": ""} for header in found]}, b""


def _pixels(item: tuple[str, int], reader: PixelReader) -> Answer:
    path = Path(item[0])
    try:
        pixels = reader.read(path, item[1])
    except MemoryError:
        pixels = Refusal(code="TOO_LARGE", what="the pixels need more memory than allowed", path=path)
    except Exception:
        pixels = Refusal(code="INTERNAL", what="the pixels made Apatite itself fail", path=path)
    if isinstance(pixels, Refusal):
        return _refused(pixels), b""
    padding = b"" if pixels.is_padding is None else np.packbits(pixels.is_padding).tobytes()
    values = {
        "type": pixels.hu.dtype.name,
        "shape": pixels.hu.shape,
        "has_padding": bool(padding),
        "is_clipped": pixels.is_clipped,
        "sop_uid": pixels.sop_uid,
    }
    return values, pixels.hu.tobytes() + padding


def _refused(refusal: Refusal) -> dict[str, Any]:
    fields = ("code", "what", "tag", "series_uid")
    return {"refusal": {name: getattr(refusal, name) for name in fields}}


if __name__ == "__main__":
    main()
