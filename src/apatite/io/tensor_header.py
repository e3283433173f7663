"""What a safetensors file claims to hold, checked before any tensor is read.

The first eight bytes give the length of a JSON header, which gives every tensor's type, shape and place. A hostile or
torn file lies there, so the claims are checked against the file and against limits before a loader sees them.

Source: the format's description, https://github.com/huggingface/safetensors (README, "Format").
"""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.core.errors import ModelError
from apatite.io.regular_file import open_regular
from apatite.io.strict_json import parse_json

MAX_HEADER_BYTES = 4 * 2**20
"""Room for the most tensors; hostile JSON needs some forty times its length in memory once it is parsed."""
MAX_TENSORS = 20_000
MAX_AXES = 8
MAX_NAME = 300
_SIZE_BYTES = 8
_ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}


@dataclass(frozen=True, kw_only=True)
class TensorClaim:
    """One tensor as the header describes it; `dtype` is a safetensors name such as `F32`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class TensorHeader:
    """Every tensor of a file by name, and the file's free text."""

    tensors: dict[str, TensorClaim]
    metadata: dict[str, str]


def read_header(path: Path) -> TensorHeader:
    """Read and check the header of a safetensors file.

    Raises:
        ModelError: the file is missing or no regular file (`IO_ERROR`), is not a safetensors file (`LENGTH_LIE`), is
            too short or too long (`TRUNCATED`, `TRAILING_DATA`), or its header is over 4 MiB or names more than 20 000
            tensors (`TOO_LARGE`).
    """
    with open_regular(path) as file:
        return _read(file, os.fstat(file.fileno()).st_size, str(path))


def header_of(content: bytes, where: str) -> TensorHeader:
    """The checked header of a safetensors file that was read already; errors as `read_header`."""
    return _read(io.BytesIO(content), len(content), where)


def _read(file: io.BufferedIOBase, file_bytes: int, where: str) -> TensorHeader:
    length = int.from_bytes(file.read(_SIZE_BYTES), "little")
    if file_bytes < _SIZE_BYTES or length > file_bytes - _SIZE_BYTES:
        raise ModelError(
            f"its header claims {length} bytes, the file has {file_bytes}", where=where, fix=_FIX, code="TRUNCATED"
        )
    if length > MAX_HEADER_BYTES:
        raise ModelError(
            f"its header is {length} bytes; at most {MAX_HEADER_BYTES} are read",
            where=where,
            fix=_FIX,
            code="TOO_LARGE",
        )
    try:
        content = parse_json(file.read(length))
        metadata = content.pop("__metadata__", {})
        if len(content) > MAX_TENSORS:
            raise ModelError(
                f"it names {len(content)} tensors; at most {MAX_TENSORS} are read",
                where=where,
                fix=_FIX,
                code="TOO_LARGE",
            )
        header = TensorHeader(
            tensors={_name(name): _claim(entry) for name, entry in content.items()}, metadata=_texts(metadata)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("is not a safetensors file", where=where, fix=_FIX, code="LENGTH_LIE") from error
    _check_places(header, file_bytes - _SIZE_BYTES - length, where)
    return header


_FIX = "copy or make the file again"


def _name(name: str) -> str:
    # Names are shown in messages, where a control character would move the cursor or hide a line.
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError("a tensor's name is no name")
    return name


def _claim(entry: dict[str, Any]) -> TensorClaim:
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("a tensor has more or less than type, shape and place")
    begin, end = (_whole(place) for place in entry["data_offsets"])
    shape = tuple(_whole(edge) for edge in entry["shape"][:MAX_AXES])
    if len(entry["shape"]) > MAX_AXES or end - begin != math.prod(shape) * _ITEM_BYTES[entry["dtype"]]:
        raise ValueError("a tensor's place does not fit its shape")
    return TensorClaim(dtype=entry["dtype"], shape=shape, begin=begin, end=end)


def _whole(value: Any) -> int:
    """A length or a place: what fits 64 bits, so that no arithmetic on it is long."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a length is no whole number")
    return value


def _texts(metadata: dict[str, str]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in metadata.values()):
        raise TypeError("the free text is not text")
    return dict(metadata)


def _check_places(header: TensorHeader, data_bytes: int, where: str) -> None:
    """Tensors must fill the file without gap or overlap, so that nothing is hidden in it."""
    place = 0
    for claim in sorted(header.tensors.values(), key=lambda claim: (claim.begin, claim.end)):
        if claim.begin != place:
            raise ModelError("its tensors overlap or leave a gap", where=where, fix=_FIX, code="LENGTH_LIE")
        place = claim.end
    if place != data_bytes:
        code = "TRUNCATED" if place > data_bytes else "TRAILING_DATA"
        raise ModelError(f"its tensors need {place} bytes, the file has {data_bytes}", where=where, fix=_FIX, code=code)
