"""A safetensors header is believed only where it fits the file."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from apatite.core.errors import ModelError
from apatite.io import tensor_header
from apatite.io.tensor_header import read_header


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_the_library_wrote(tmp_path: Path) -> None:
    save_file({"b": np.zeros((2, 3, 5), np.float32), "a": np.zeros((7,), np.int64)}, tmp_path / "x", {"state": "{}"})
    header = read_header(tmp_path / "x")
    assert {name: (claim.dtype, claim.shape) for name, claim in header.tensors.items()} == {
        "a": ("I64", (7,)),
        "b": ("F32", (2, 3, 5)),
    }
    assert header.metadata == {"state": "{}"}


@pytest.mark.parametrize(
    ("header", "data", "length", "code"),
    [
        ({"a": entry([2], 0, 8)}, b"1234", None, "TRUNCATED"),
        ({"a": entry([2], 0, 8)}, b"12345678hidden", None, "TRAILING_DATA"),
        ({"a": entry([2], 0, 8)}, b"", 2**62, "TRUNCATED"),
        ({"a": entry([3], 0, 8)}, b"12345678", None, "LENGTH_LIE"),
        ({"a": entry([-1, -2], 0, 8)}, b"12345678", None, "LENGTH_LIE"),
        ({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, b"123456", None, "LENGTH_LIE"),
        ({"a": entry([1], 4, 8)}, b"12345678", None, "LENGTH_LIE"),
        ({"a": entry([2], 0, 8, "F31")}, b"12345678", None, "LENGTH_LIE"),
        ({"a": 3}, b"", None, "LENGTH_LIE"),
        ([1, 2], b"", None, "LENGTH_LIE"),
        ({"__metadata__": {"a": 1}}, b"", None, "LENGTH_LIE"),
        ({"a": entry([2], 0, 8) | {"more": 1}}, b"12345678", None, "LENGTH_LIE"),
        ({"a": entry([1] * 9, 0, 4)}, b"1234", None, "LENGTH_LIE"),
        ({"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}, b"12345678", None, "LENGTH_LIE"),
        ({"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}, b"12345678", None, "LENGTH_LIE"),
        ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, b"1234", None, "LENGTH_LIE"),
        ({"\x1b[2J": entry([2], 0, 8)}, b"12345678", None, "LENGTH_LIE"),
        ({"": entry([2], 0, 8)}, b"12345678", None, "LENGTH_LIE"),
    ],
)
def test_a_lie_is_refused(tmp_path: Path, header: object, data: bytes, length: int | None, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_header(write(tmp_path / "x", header, data, length))
    assert caught.value.code == code


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.arange(6, dtype=np.float32)}, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(ModelError):
            read_header(tmp_path / "x")


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"t{i}": entry([0], 0, 0) for i in range(tensor_header.MAX_TENSORS + 1)}
    with pytest.raises(ModelError, match="20001 tensors"):
        read_header(write(tmp_path / "many", many))
    monkeypatch.setattr(tensor_header, "MAX_HEADER_BYTES", 50)
    with pytest.raises(ModelError, match="at most 50"):
        read_header(write(tmp_path / "long", {"a" * 60: entry([0], 0, 0)}))
