"""The one place where a file of another program is unpickled: by torch's restricted reader, in a process of its own.

What comes before it decides: the container holds nothing hidden (`foreign_zip`), the pickle names nothing but tensors
(`foreign_pickle`). torch's own restricted reader is a second fence, not the only one: it has been broken twice
(CVE-2025-32434, CVE-2026-24747). `foreign_child` is the third. The reader never falls back to one without restrictions.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor, nn

from apatite.core.errors import ModelError
from apatite.engine.foreign_pickle import INERT_NAMES, Inert, refuse_code
from apatite.engine.foreign_zip import SAVE_AGAIN, checked_pickle
from apatite.io.model_package import MAX_WEIGHTS_BYTES
from apatite.io.regular_file import open_regular
from apatite.io.tensor_header import MAX_AXES, MAX_NAME, MAX_TENSORS

MAX_FILE_BYTES: Final = 16 * 2**30
"""Training states hold the optimiser's numbers beside the weights; those are never read."""
MAX_PICKLE_BYTES: Final = 32 * 2**20
DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a tensor of a network may be counted in, by the names of safetensors."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What was taken out of a file.

    Attributes:
        tensors: By their names in the file; on the CPU, perhaps mapped from the file.
        place: The key under which they stood; empty where the file is nothing but them.
        beside: What else the file holds and was not taken, by name.
        sha256: Of the file.
    """

    tensors: dict[str, Tensor]
    place: str
    beside: tuple[str, ...]
    sha256: str


def read_torch(path: Path, places: Sequence[str]) -> Found:
    """Take the tensors out of a file that `torch.save` wrote.

    Args:
        path: The file.
        places: Keys under which to look, the first that is there decides; the empty one stands for the file itself.

    Raises:
        ModelError: as `foreign_zip.checked_pickle` and `foreign_pickle.refuse_code`; or the file is missing, no regular
            file, or changes meanwhile (`IO_ERROR`), is of no known form or holds nothing under those keys
            (`NOT_WEIGHTS`), or a tensor claims more numbers than it holds (`BOMB`).
    """
    where = str(path)
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > MAX_FILE_BYTES:
            raise _error(f"is over {MAX_FILE_BYTES} bytes", where, "TOO_LARGE")
        _refuse_other_forms(file.read(16), where)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        refuse_code(checked_pickle(file, before.st_size, MAX_PICKLE_BYTES, where), where)
        content = _loaded(file, where)
        place, tensors, beside = _state(content, places, where)
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise _error("was written to while it was read", where, "IO_ERROR")
    return Found(tensors=tensors, place=place, beside=beside, sha256=sha256)


def _refuse_other_forms(begin: bytes, where: str) -> None:
    if begin[:4] == b"PK\x03\x04":
        return
    if begin.startswith(bytes.fromhex("80028a0a6cfc9c46f9206aa85019")):
        raise _error("is of the form that torch wrote before 1.6", where, "NOT_WEIGHTS")
    kind = "a pickle that torch.save did not write" if begin[:1] == b"\x80" else "neither a torch file nor safetensors"
    raise _error(f"is {kind}; nothing of it was run", where, "NOT_WEIGHTS")


def _loaded(file: BinaryIO, where: str) -> Any:
    """What the file holds; its tensors stay mapped from the file where the system can."""
    file.seek(0)
    # The path may lead elsewhere by now; the descriptor leads to what was checked.
    opened = Path(f"/dev/fd/{file.fileno()}")
    inert: list[Any] = [(Inert, name.replace(" ", ".", 1)) for name in sorted(INERT_NAMES)]
    try:
        with torch.serialization.safe_globals(inert):
            if opened.exists():
                return torch.load(str(opened), map_location="cpu", weights_only=True, mmap=True)
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever hostile bytes provoke in torch, it is the file's fault
        if "memory" in str(error):
            raise MemoryError from error
        raise _error(
            f"cannot be read by torch ({type(error).__name__}); it is damaged, or from a later torch",
            where,
            "NOT_WEIGHTS",
        ) from error


def _state(content: Any, places: Sequence[str], where: str) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """The key that was found, its tensors, and what else there is."""
    if not isinstance(content, dict):
        raise _error("holds no tensors by name", where, "NOT_WEIGHTS")
    for place in places:
        state = content.get(place) if place else content
        if isinstance(state, dict) and any(isinstance(value, Tensor) for value in state.values()):
            outside = [_shown(key) for key in content if place and key != place]
            inside = [_shown(key) for key, value in state.items() if not isinstance(value, Tensor)]
            tensors = {
                str(key): _checked(key, value, where) for key, value in state.items() if isinstance(value, Tensor)
            }
            _refuse_too_many(tensors, where)
            return place, tensors, tuple(outside + inside)
    keys = ", ".join(map(_shown, list(content)[:8]))
    wanted = " or ".join(repr(place) if place else "at the top" for place in places)
    raise _error(f"holds no tensors under {wanted}; it holds {keys or 'nothing'}", where, "NOT_WEIGHTS")


def _checked(name: Any, tensor: Tensor, where: str) -> Tensor:
    """A tensor of plain numbers, each of which is in the file."""
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or not name.isprintable():
        raise _error(f"names a tensor {_shown(name)}", where, "NOT_WEIGHTS")
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not is_plain or tensor.dtype not in DTYPES.values() or tensor.dim() > MAX_AXES:
        raise _error(f"holds in {_shown(name)} something that no network is made of", where, "NOT_WEIGHTS")
    # One number may be shown a thousand million times over by a step of 0.
    if math.prod(tensor.shape) * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _error(f"claims more numbers in {_shown(name)} than it holds", where, "BOMB")
    return tensor.detach()


def _refuse_too_many(tensors: dict[str, Tensor], where: str) -> None:
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if len(tensors) > MAX_TENSORS or num_bytes > MAX_WEIGHTS_BYTES:
        raise _error(
            f"holds {len(tensors)} tensors of {num_bytes} bytes; at most {MAX_TENSORS} of {MAX_WEIGHTS_BYTES} are read",
            where,
            "TOO_LARGE",
        )


def _shown(name: Any) -> str:
    return ascii(name[:60])[1:-1] if isinstance(name, str) else f"a key of type {type(name).__name__}"


def _error(what: str, where: str, code: str) -> ModelError:
    return ModelError(what, where=where, fix=SAVE_AGAIN, code=code)
