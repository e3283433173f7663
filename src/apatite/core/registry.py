"""A registry is a dict you can read; an unknown name suggests the nearest."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from apatite.core.errors import ConfigError

T = TypeVar("T")


def nearest(name: str, names: list[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(sorted(names))}"


def choose(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return `table[name]`.

    Raises:
        ConfigError: the name is unknown; the message suggests the nearest one.
    """
    if name in table:
        return table[name]
    raise ConfigError(f"unknown {kind} {name!r}", fix=nearest(name, list(table)))
