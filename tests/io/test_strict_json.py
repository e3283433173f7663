"""What has two meanings is refused; what has one is read as Python's own reader does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.io import strict_json
from apatite.io.strict_json import levels, parse_json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_reads_what_python_wrote(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 1}',
        b'[{"b": {"a": 1, "a": 2}}]',
        b"NaN",
        b"[-Infinity]",
        b"1e400",
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 30 + b"]" * 30,
        '{"a": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b"[" + b"[]," * strict_json.MAX_BRACKETS + b"[]]",
    ],
)
def test_what_has_two_meanings_or_no_end_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(content)


def test_nesting_is_counted_from_the_outside() -> None:
    depth = strict_json.MAX_NESTING
    assert parse_json(b"[" * depth + b"1" + b"]" * depth)
    with pytest.raises(ValueError, match="nested"):
        parse_json(b'{"a":' + b"[" * depth + b"1" + b"]" * depth + b"}")


def test_levels_name_keys_too() -> None:
    assert list(levels({"a": [1, {"b": 2}], "c": 3})) == [["a", "c", [1, {"b": 2}], 3], [1, {"b": 2}], ["b", 2]]
    assert list(levels(3)) == []
