"""Weights that another program wrote, taken out of its file without running anything of it.

    safetensors   read here: the format holds numbers and names, no code
    torch.save    read in a child process under limits (`foreign_child`), once nothing hidden or foreign was found in it

Everything that comes back from the child is checked again: who breaks it can still only hand over numbers.
"""

import hashlib
import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from apatite.core.errors import ApatiteError, ModelError
from apatite.engine.foreign_guard import TRIED_TO_ACT
from apatite.engine.foreign_torch import DTYPES, Found
from apatite.engine.foreign_zip import SAVE_AGAIN
from apatite.io.dicom.pipe import MAX_BYTES, Pipe, PipeBrokenError, PipeLateError
from apatite.io.model_package import MAX_WEIGHTS_BYTES
from apatite.io.regular_file import open_regular, read_regular
from apatite.io.tensor_header import MAX_AXES, MAX_NAME, MAX_TENSORS, header_of

_JSON_BEGIN, _LENGTH_BYTES = b"{", 8
_CODES = ("FOREIGN_CODE", "NOT_WEIGHTS", "BOMB", "TRAILING_DATA", "TRUNCATED", "CRC", "TOO_LARGE", "IO_ERROR")
"""With which the child may refuse."""
_NONSENSE = (PipeBrokenError, AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)
"""What an answer that is none leads to."""


@dataclass(frozen=True, kw_only=True)
class ForeignLimits:
    """What the process that reads one file may take.

    Attributes:
        spare_bytes: Address space beyond the libraries' and twice the file's.
        cpu_s: CPU seconds.
        wall_s: Seconds until each piece of its answer has to have come.
    """

    spare_bytes: int = 2 * 2**30
    cpu_s: int = 300
    wall_s: float = 600.0


def read_foreign(path: Path, places: Sequence[str], limits: ForeignLimits | None = None) -> Found:
    """The tensors of a file that another program wrote.

    Args:
        path: A file of safetensors, or one that `torch.save` wrote (`.pt`, `.pth`, `.ckpt`); its content decides.
        places: Keys under which its tensors may stand, the first that is there decides; the empty one stands for the
            file itself.
        limits: Of the process that reads it.

    Raises:
        ModelError: the file is missing or no regular file (`IO_ERROR`), is no file of weights (`NOT_WEIGHTS`), holds
            code (`FOREIGN_CODE`), is damaged (`TRUNCATED`, `TRAILING_DATA`, `LENGTH_LIE`, `CRC`), too large
            (`TOO_LARGE`, `BOMB`), or ended the process that read it (`DECODER_CRASH`, `DECODER_TIMEOUT`).
        ApatiteError: no process can be started to read it.
    """
    with open_regular(path) as file:
        begin = file.read(_LENGTH_BYTES + 1)
    if begin[_LENGTH_BYTES:] == _JSON_BEGIN:
        return _read_safetensors(path)
    return _read_in_child(path, places, limits or ForeignLimits())


def _read_safetensors(path: Path) -> Found:
    content = read_regular(path, MAX_WEIGHTS_BYTES)
    header = header_of(content, str(path))
    odd = [name for name, claim in header.tensors.items() if claim.dtype not in DTYPES]
    if odd:
        raise _error(f"holds in {odd[0]} something that no network is made of", path, "NOT_WEIGHTS")
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise _error("cannot be decoded", path, "LENGTH_LIE") from error
    beside = tuple(f"free text {name[:60]!a}" for name in header.metadata)
    return Found(tensors=tensors, place="", beside=beside, sha256=hashlib.sha256(content).hexdigest())


def _read_in_child(path: Path, places: Sequence[str], limits: ForeignLimits) -> Found:
    # -P: nothing is imported from the folder that happens to be the current one.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "apatite.engine.foreign_child", json.dumps(asdict(limits))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    pipe = Pipe(process.stdout.fileno(), process.stdin.fileno())
    try:
        _await_start(pipe, limits.wall_s)
        pipe.send({"path": str(path.absolute()), "places": list(places)}, wait_s=limits.wall_s)
        return _received(pipe, path, limits.wall_s)
    except PipeLateError:
        raise _error("took too long to read", path, "DECODER_TIMEOUT") from None
    except _NONSENSE:
        raise _ended(process, path) from None
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _await_start(pipe: Pipe, wait_s: float) -> None:
    try:
        pipe.receive(wait_s)
    except (PipeBrokenError, PipeLateError):
        raise ApatiteError(
            "the process that reads foreign weights does not start",
            fix="check the memory limits of this machine, and the installation with `apatite doctor`",
            code="INTERNAL",
        ) from None


def _received(pipe: Pipe, path: Path, wait_s: float) -> Found:
    """The child's answer, none of which is believed: a wrong type or size is one of `_NONSENSE`."""
    values, _ = pipe.receive(wait_s)
    if "refusal" in values:
        raise _refusal(values["refusal"], path)
    claims = [_claim(claim) for claim in values["tensors"]]
    names = [name for name, *_ in claims]
    total = sum(size for *_, size in claims)
    if len(claims) > MAX_TENSORS or len(set(names)) != len(names) or total > MAX_WEIGHTS_BYTES:
        raise ValueError("more, or larger, than the child may hand over")
    tensors = {}
    for name, dtype, shape, size in claims:
        content = bytearray()
        while len(content) < size:
            _, piece = pipe.receive(wait_s)
            if len(piece) != min(size - len(content), MAX_BYTES):
                raise ValueError("another length than announced")
            content += piece
        tensors[name] = _tensor(content, dtype, shape)
    return Found(
        tensors=tensors,
        place=str(values["place"]),
        beside=tuple(str(name)[:100] for name in values["beside"]),
        sha256=str(values["sha256"])[:64],
    )


def _claim(values: Mapping[str, Any]) -> tuple[str, torch.dtype, list[int], int]:
    """Name, type, shape and bytes of one tensor."""
    name, shape, dtype = str(values["name"]), [int(edge) for edge in values["shape"]], DTYPES[values["dtype"]]
    if not name.isprintable() or len(name) > MAX_NAME or len(shape) > MAX_AXES or min(shape, default=0) < 0:
        raise ValueError("no tensor's name or shape")
    return name, dtype, shape, math.prod(shape) * dtype.itemsize


def _tensor(content: bytearray, dtype: torch.dtype, shape: list[int]) -> Tensor:
    if not content:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).reshape(shape)


def _refusal(plain: Mapping[str, str], path: Path) -> ModelError:
    if plain["code"] not in _CODES:
        raise ValueError("no code of ours")
    texts = {key: ascii(str(plain[key])[:600])[1:-1] for key in ("what", "fix")}
    return ModelError(texts["what"], where=str(path), fix=texts["fix"] or SAVE_AGAIN, code=plain["code"])


def _ended(process: subprocess.Popen[bytes], path: Path) -> ApatiteError:
    """Why the child is gone."""
    try:
        status = process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
        status = 0
    if status == TRIED_TO_ACT:
        what = "tried to act while it was read, and was stopped"
        return ModelError(
            what, where=str(path), fix="do not use it, and tell where you have it from", code="FOREIGN_CODE"
        )
    if status == -signal.SIGXCPU:
        return _error("took too long to read", path, "DECODER_TIMEOUT")
    return _error("ended the process that read it", path, "DECODER_CRASH")


def _error(what: str, path: Path, code: str) -> ModelError:
    return ModelError(what, where=str(path), fix=SAVE_AGAIN, code=code)
