"""Which cases training must not see: whole vendors, scanner models or kernels, so that they can be strangers later.

A rule is `column=value`, for example `vendor=GE` or `kernel_class=bone`; a case that fits any rule is held out.
"""

from collections.abc import Sequence
from typing import Final

from apatite.core.errors import ConfigError
from apatite.core.registry import nearest
from apatite.io.case import Case

HOLD_OUT_COLUMNS: Final = ("vendor", "scanner_model", "kernel", "kernel_class", "domain")
"""Columns of a manifest by which cases can be held out."""


def is_held_out(case: Case, rules: Sequence[str]) -> bool:
    """Whether a case fits any of the rules; letters' case does not count.

    Raises:
        ConfigError: a rule names no such column, or has no value.
    """
    return any(getattr(case, column).casefold() == value.casefold() for column, value in map(_rule, rules))


def refuse_strangers(cases: Sequence[Case], rules: Sequence[str]) -> None:
    """A rule that fits no case holds nothing out, and a card would say that it did.

    Raises:
        ConfigError: such a rule.
    """
    for rule in rules:
        if not any(is_held_out(case, (rule,)) for case in cases):
            column, value = _rule(rule)
            there = sorted({getattr(case, column) for case in cases} - {""})
            raise ConfigError(f"no case fits {rule!r}", where="hold_out", fix=nearest(value, there))


def _rule(text: str) -> tuple[str, str]:
    column, _, value = text.partition("=")
    if column not in HOLD_OUT_COLUMNS:
        raise ConfigError(
            f"cases cannot be held out by {column!r}", where="hold_out", fix=nearest(column, list(HOLD_OUT_COLUMNS))
        )
    if not value:
        raise ConfigError(f"{text!r} names no value", where="hold_out", fix="write it as vendor=GE")
    return column, value
