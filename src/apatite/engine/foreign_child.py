"""The process in which a foreign file is unpickled: it reads one file under limits, answers, and ends.

It is started by `foreign.read_foreign` and by nothing else. Should code of the file run all the same, it can start
nothing, write nothing and reach nobody: the first attempt ends the process (`foreign_guard`).
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from apatite.core.errors import ModelError
from apatite.engine.foreign_guard import end_where_it_acts, take_limits
from apatite.engine.foreign_torch import DTYPES, MAX_FILE_BYTES, read_torch
from apatite.io.dicom.pipe import MAX_BYTES, Pipe

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def main() -> None:
    """Read the one file that is asked for, and answer with its tensors or with why not."""
    limits = json.loads(sys.argv[1])
    # A library that prints must not reach the pipe.
    answers = os.dup(1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    pipe = Pipe(0, answers)
    pipe.send({"is_ready": True})
    request, _ = pipe.receive()
    path = Path(request["path"])
    # The file is mapped, and what is taken of it copied.
    file_bytes = min(path.stat().st_size, MAX_FILE_BYTES) if path.is_file() else 0
    take_limits(limits["cpu_s"], 2 * file_bytes + limits["spare_bytes"])
    sys.addaudithook(end_where_it_acts)
    for values, content in _answers(path, request["places"]):
        pipe.send(values, content)


def _answers(path: Path, places: list[str]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """What was found, then the bytes of each tensor in turn, in pieces; or one refusal."""
    try:
        found = read_torch(path, places)
    except ModelError as error:
        yield {"refusal": {"what": error.what, "fix": error.fix, "code": error.code}}, b""
        return
    except MemoryError:
        fix = "ask its maker for the weights alone, as safetensors"
        yield {"refusal": {"what": "needs more memory than weights do", "fix": fix, "code": "TOO_LARGE"}}, b""
        return
    claims = [
        {"name": name, "dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape)}
        for name, tensor in found.tensors.items()
    ]
    yield {"place": found.place, "beside": list(found.beside), "sha256": found.sha256, "tensors": claims}, b""
    for tensor in found.tensors.values():
        octets = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        for begin in range(0, len(octets), MAX_BYTES):
            yield {}, octets[begin : begin + MAX_BYTES].tobytes()


if __name__ == "__main__":
    main()
