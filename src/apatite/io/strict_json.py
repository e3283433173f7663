"""JSON with one meaning only, for files from elsewhere.

Python's reader takes the last of two equal keys, reads `NaN`, guesses the encoding, and follows any nesting it can.
Another reader of the same bytes would understand something else, and what is checked must be what is used.

Source: RFC 8259; "I-JSON", RFC 7493, for the refusals.
"""

import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

MAX_NESTING = 24
MAX_BRACKETS = 100_000
"""Objects and lists; each takes a hundred times its text in memory."""


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        ValueError: it is not JSON; or it repeats a key, holds a number that is not finite or an integer of thousands of
            digits, is nested deeper than `MAX_NESTING`, or has more than `MAX_BRACKETS` objects and lists.
    """
    if content.count(b"[") + content.count(b"{") > MAX_BRACKETS:
        raise ValueError("has too many objects and lists")
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_number
        )
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if sum(1 for _ in islice(levels(value), MAX_NESTING + 1)) > MAX_NESTING:
        raise ValueError("is nested too deeply")
    return value


def levels(value: Any) -> Iterator[list[Any]]:
    """All that is one, two, ... levels below a value: keys and values of objects, items of lists."""
    nodes = [value]
    while nodes := [node for node in nodes if isinstance(node, dict | list)]:
        nodes = [item for node in nodes for item in ([*node, *node.values()] if isinstance(node, dict) else node)]
        yield nodes


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("repeats a key")
    return made


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
