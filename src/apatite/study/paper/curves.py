"""Dice on development while training, and whether it had stopped rising; no verdict rests on one that had not."""

from collections.abc import Iterable

from apatite.report.figures.curves import CurvePanel, learning_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.nnunet.lengths import LEARNT_DICE
from apatite.study.paper.results import Results
from apatite.study.paper.titles import panel_words, place, run_words
from apatite.study.sweep.record import FLAT_DICE, FLAT_SHARE, Record

NOT_FLAT = " (not flat)"
_MAX_PANELS = 12
_MIN_LOOKS = 3


def curves_section(results: Results) -> Section:
    """One row per run, and the curves of runs that share everything but start and seed in one panel."""
    trained = sorted((record for record in results.records if record.kind != "pretrain"), key=place)
    rows: list[list[Cell]] = []
    for record in trained:
        last = record.curve[-1][1] if record.curve else None
        late = _late(record)
        moved = max(late) - min(late) if len(late) > 1 else None
        rows.append([record.name, record.steps, len(record.curve), last, moved, _flatness(record, late)])
    return Section(
        title="Development curves",
        text=(
            f"A curve is flat when it moves by less than {FLAT_DICE:g} of Dice over the last {100 * FLAT_SHARE:g} % of "
            f"the steps, at {LEARNT_DICE:g} or more; fewer than three looks there show nothing. Development is looked "
            "at, nothing is chosen by it but thresholds.",
        ),
        tables=(
            Table(
                columns=("row", "steps", "looks", "last Dice", "moved at the end", "flat"),
                rows=rows,
                caption="Dice on development at the end of training." if rows else "Not run.",
            ),
        ),
        figures=_pictures(trained),
    )


def _late(record: Record) -> list[float]:
    """Dice in the last part of the steps, with the look at or just before its beginning."""
    start = (1 - FLAT_SHARE) * record.steps
    before = [dice for step, dice in record.curve if step <= start][-1:]
    return before + [dice for step, dice in record.curve if step > start]


def _flatness(record: Record, late: list[float]) -> str:
    if not record.curve:
        return "no curve"
    return "yes" if record.is_flat else "no" if len(late) >= _MIN_LOOKS else "looked at too seldom"


def _pictures(trained: list[Record]) -> list[Picture]:
    groups: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for record in trained:
        if record.curve:
            name = run_words(record) + ("" if record.is_flat else NOT_FLAT)
            x, y = ([float(point[column]) for point in record.curve] for column in (0, 1))
            groups.setdefault(panel_words(record), {})[name] = (x, y)
    panels = [
        CurvePanel(title=_marked(title, lines), x_label="step", y_label="Dice on development", lines=lines)
        for title, lines in groups.items()
    ]
    return [
        learning_figure(panels[start : start + _MAX_PANELS], caption="Dice on development over the steps of training.")
        for start in range(0, len(panels), _MAX_PANELS)
    ]


def _marked(title: str, lines: Iterable[str]) -> str:
    """A panel of one line has no legend, so its title says that the line is not flat."""
    names = list(lines)
    return title + NOT_FLAT if len(names) == 1 and names[0].endswith(NOT_FLAT) else title
