"""Rows whose block of a grid changed a recipe, each beside its twin of the unchanged one, and what was changed."""

from collections.abc import Iterator, Mapping
from typing import Any

from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.cells import NOT_RUN, about, estimates, shown, signed
from apatite.study.paper.contrasts import contrast
from apatite.study.paper.results import Arm, Results, changed_by
from apatite.study.paper.titles import row_words
from apatite.study.sweep.record import Record

_OF_THE_MACHINE = ("precision", "feed", "device", "save_every_s", "seed", "draw")
_LONGEST = 300
"""Characters of what was changed."""


def ablations_section(results: Results) -> Section:
    """One row per changed arm; a study without any says so."""
    seen = results.over_labels
    rows: list[list[Cell]] = []
    for title, arm, record in _changed_arms(seen):
        twin = Arm(title=title, axes=arm.axes)
        found = contrast(seen, ((1.0, arm), (-1.0, twin)), "dice")
        by_run = " ".join(signed(value) for value in found.by_run.values()) if found else NOT_RUN
        cells = [estimates(seen, one, ("dice",))[0] for one in (arm, twin)]
        what = _what(seen, record, twin)
        rows.append([title, arm.block, what, *cells, shown(found.estimate if found else None), by_run])
    return Section(
        title="Changed recipes",
        text=(
            "What is named is changed, in pre-training or in fine-tuning, and all else is as in the twin. Threshold "
            "0.5, means over labels.",
        ),
        tables=(
            Table(
                columns=("model", "block", "changed", "Dice", "Dice of the twin", "changed − twin", "by run"),
                rows=rows,
                caption=f"Paired on the same cases; {about(seen)}" if rows else "Not run.",
            ),
        ),
    )


def _changed_arms(results: Results) -> Iterator[tuple[str, Arm, Record]]:
    """Each once: its title, the arm, and its first row."""
    known: set[tuple[object, ...]] = set()
    for record in results.records:
        block = changed_by(record)
        axes = {
            name: value for name, value in record.axes.items() if value is not None and name not in ("seed", "draw")
        }
        key = (block, *sorted(axes.items()))
        if block and key not in known:
            known.add(key)
            title = row_words(record)
            yield title, Arm(title=title, axes=axes, block=block), record


def _what(results: Results, record: Record, twin: Arm) -> str:
    """Every setting of either training that differs from the twin's, as `teaching.tap: merged3 → stage4`."""
    twins = list(results.runs(twin).values())
    if not twins:
        return NOT_RUN
    found: dict[str, str] = {}
    pairs = [(_encoder(results, twins[0]), _encoder(results, record)), (twins[0], record)]
    for before, after in pairs:
        if before is not None and after is not None:
            first, second = _flat(before.config), _flat(after.config)
            differing = [key for key in sorted(first.keys() | second.keys()) if first.get(key) != second.get(key)]
            found |= {key: f"{first.get(key)} → {second.get(key)}" for key in differing}
    text = "; ".join(f"{key}: {change}" for key, change in found.items())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _encoder(results: Results, record: Record) -> Record | None:
    """The pre-training that a row began from."""
    return results.encoders.get(record.digests.get("encoder", ""))


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names, without those that say how a machine computes."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and key in _OF_THE_MACHINE:
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
