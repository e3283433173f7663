"""Dice over the number of labels by pretext task, and the gap between the fewest and the most."""

from collections.abc import Sequence
from dataclasses import replace

from apatite.report.figures.trend import TrendPoint, trend_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.cells import NOT_RUN, about, estimates, label_counts, num_positive, shown, signed
from apatite.study.paper.contrasts import contrast, estimate, means_of_runs
from apatite.study.paper.pretexts import pretext_keys
from apatite.study.paper.results import Arm, Results
from apatite.study.paper.smit_arms import few_and_many, pretext_arm
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import ALL, Value


def few_labels_section(results: Results) -> Section:
    """One row per pretext task; draws of labels and seeds are runs of one arm."""
    seen = results.over_labels
    return Section(
        title="Pretext tasks with few labels",
        text=(
            "Threshold 0.5; means over labels. A gap says how much is lost with few labels; that of a poor method can "
            "be small because it is poor with many, so both ends stand beside it.",
        ),
        tables=(_curves_table(seen), _gaps_table(seen)),
        figures=_picture(seen),
    )


def _arms(results: Results, count: Value) -> list[Arm]:
    """At one number of labels; the draw is free, unless all labels are meant."""
    draw = {} if count == ALL else {"draw": None}
    return [pretext_arm(results, *key, labels=count, **draw) for key in pretext_keys(results)]


def _curves_table(results: Results) -> Table:
    counts = label_counts(results)
    by_count = [_arms(results, count) for count in counts]
    rows: list[list[Cell]] = []
    for arms in zip(*by_count, strict=True):
        numbers = " ".join(str(len(results.runs(arm))) for arm in arms)
        rows.append([arms[0].title, numbers, *(estimates(results, arm, ("dice",))[0] for arm in arms)])
    return Table(
        columns=("model", "runs", *(f"Dice, {count} labels" for count in counts)),
        rows=rows,
        caption=f"Means over labels and over {num_positive(results)} cases; {about(results)}",
    )


def _gaps_table(results: Results) -> Table:
    few, many = few_and_many(results)
    rows: list[list[Cell]] = []
    for key in pretext_keys(results):
        ends = [_first_draw(pretext_arm(results, *key, labels=count)) for count in (many, few)]
        found = contrast(results, list(zip((1.0, -1.0), ends, strict=True)), "dice")
        by_run = " ".join(signed(value) for value in found.by_run.values()) if found else NOT_RUN
        ends_shown = [estimates(results, arm, ("dice",))[0] for arm in reversed(ends)]
        rows.append([ends[0].title, *ends_shown, shown(found.estimate if found else None), by_run])
    return Table(
        columns=("model", f"Dice, {few} labels", f"Dice, {many} labels", "gap", "gap by run"),
        rows=rows,
        caption=f"Most labels minus fewest, on the same cases, the first draw alone; {about(results)}",
    )


def _first_draw(arm: Arm) -> Arm:
    """A draw of few labels has no twin among all labels but the first."""
    return replace(arm, axes={**arm.axes, "draw": 0})


def _picture(results: Results) -> Sequence[Picture]:
    lines: dict[str, list[TrendPoint]] = {}
    ticks: dict[float, str] = {}
    for count in label_counts(results):
        for arm in _arms(results, count):
            found = estimate(results, arm, "dice")
            if found is None:
                continue
            x = float(_number(count, list(results.runs(arm).values())))
            point = TrendPoint(x=x, estimate=found, runs=means_of_runs(results, arm, "dice"))
            lines.setdefault(arm.title, []).append(point)
            ticks[x] = f"{x:.0f}\n(all)" if count == ALL else str(count)
    if not lines:
        return ()
    caption = f"Dice over the number of labels; small dots are single draws and seeds; {about(results)}"
    return (trend_figure(lines, ticks=ticks, x_label="labelled cases", y_label="Dice", caption=caption),)


def _number(count: Value, records: list[Record]) -> int:
    """How many labelled cases a value of the axis stands for; at least 1, for the axis is logarithmic."""
    if count != ALL:
        return int(count or 1)
    return max(1, *(record.splits.get("finetune", {}).get("series", 0) for record in records))
