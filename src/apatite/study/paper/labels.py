"""Dice over the number of labels: pre-trained and from scratch, with perfect and with a reader's labels.

Every number of labels is drawn several times; a smaller draw is part of a larger one. Pre-trained and scratch runs are
paired by draw, seed and case.
"""

from apatite.report.figures.trend import TrendPoint, trend_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.cells import about, difference_table, estimates, heading, num_positive, spread
from apatite.study.paper.contrasts import estimate, means_of_runs
from apatite.study.paper.results import Arm, Reading, Results
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import ALL, EQUAL_TIME, SCRATCH

_QUANTITIES = ("dice", "volume_error_mm3")
_STARTS = {"mae": "pre-trained", SCRATCH: "from scratch", EQUAL_TIME: "from scratch, equal total time"}
_READERS = {"perfect": "perfect", "reader": "a reader’s"}
_READING: Reading = "calibrated"


def labels_section(results: Results) -> Section:
    """One row per number of labels, start and reader; paired differences; the curves."""
    counts = [count for count in results.values("labels") if _is_known(results, count)]
    arms = {
        (reader, start, count): _arm(results, reader, start, count)
        for reader in _present(results, "reader", _READERS)
        for start in _present(results, "init", _STARTS)
        for count in counts
    }
    rows: list[list[Cell]] = []
    for (reader, start, count), arm in arms.items():
        runs = results.runs(arm)
        if runs:
            cells = estimates(results, arm, _QUANTITIES)
            title = [_READERS[reader], _STARTS[start], str(count)]
            rows.append([*title, len(runs), *cells, spread(results, arm, "dice")])
    return Section(
        title="Label efficiency",
        text=(
            "Every model is calibrated on the same development labels, however few it learned from, so the curve is "
            "about labels to learn from only. All models are judged by the perfect reader.",
        ),
        tables=(
            Table(
                columns=("labels by", "start", "labels", "runs", *map(heading, _QUANTITIES), "Dice, SD of runs"),
                rows=rows,
                caption=f"Means over {num_positive(results)} cases with calcium; {about(results)}"
                if rows
                else "Not run.",
            ),
            difference_table(results, _pairs(arms, counts), _QUANTITIES, "Paired by draw of labels and seed too."),
        ),
        figures=_picture(results, arms),
    )


def _present(results: Results, axis: str, titles: dict[str, str]) -> list[str]:
    """Known values that were run; all of them before anything was."""
    values = results.values(axis)
    return [value for value in titles if value in values] or list(titles)


def _arm(results: Results, reader: str, start: str, count: str | int) -> Arm:
    title = f"{_STARTS[start]}, {_READERS[reader]} labels"
    # The draw is free: draws are runs of one arm.
    return results.arm(title, _READING, init=start, reader=reader, labels=count, draw=None)


def _pairs(arms: dict[tuple[str, str, str | int], Arm], counts: list[str | int]) -> dict[str, tuple[Arm, Arm]]:
    pairs = {}
    for (reader, start, count), arm in arms.items():
        for other in (SCRATCH, EQUAL_TIME):
            if start == "mae" and (reader, other, count) in arms:
                title = f"{count} labels, {_READERS[reader]}: pre-trained − {_STARTS[other]}"
                pairs[title] = (arm, arms[reader, other, count])
    for count in counts:
        perfect, read = (arms.get((reader, "mae", count)) for reader in ("perfect", "reader"))
        if perfect is not None and read is not None:
            pairs[f"{count} labels, pre-trained: a reader’s − perfect"] = (read, perfect)
    return pairs


def _records(results: Results, count: str | int) -> list[Record]:
    return [record for record in results.records if record.kind == "vit" and record.axes.get("labels") == count]


def _is_known(results: Results, count: str | int) -> bool:
    return bool(_records(results, count)) and _number(results, count) > 0


def _number(results: Results, count: str | int) -> int:
    """How many labelled cases a value of the axis stands for."""
    if count != ALL:
        return int(count)
    return max((record.splits.get("finetune", {}).get("series", 0) for record in _records(results, ALL)), default=0)


def _picture(results: Results, arms: dict[tuple[str, str, str | int], Arm]) -> tuple[Picture, ...]:
    lines: dict[str, list[TrendPoint]] = {}
    ticks: dict[float, str] = {}
    numbers = {_number(results, count) for _, _, count in arms if count != ALL}
    for (_, _, count), arm in arms.items():
        found = estimate(results, arm, "dice")
        x = float(_number(results, count))
        # One place, one run: where a drawn number is all there are, the draw stands for it.
        if found is not None and not (count == ALL and x in numbers):
            lines.setdefault(arm.title, []).append(
                TrendPoint(x=x, estimate=found, runs=means_of_runs(results, arm, "dice"))
            )
            ticks[x] = f"{x:.0f}\n(all)" if count == ALL else str(count)
    if not lines:
        return ()
    caption = f"Dice over the number of labels, calibrated; small dots are single draws and seeds; {about(results)}"
    return (trend_figure(lines, ticks=ticks, x_label="labelled cases", y_label="Dice", caption=caption),)
