"""The second paper's comparison: networks by what they began from, over all labels, label by label, and in pairs."""

from collections.abc import Sequence
from dataclasses import replace
from textwrap import fill

from apatite.report.figures.intervals import interval_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.cells import (
    NOT_RUN,
    about,
    difference_table,
    estimates,
    heading,
    label_counts,
    num_positive,
    spread,
)
from apatite.study.paper.contrasts import estimate
from apatite.study.paper.results import Arm, Results
from apatite.study.paper.topo_arms import MAIN, others_run, topo_arm
from apatite.study.paper.topo_claims import TOPO_CLAIMS

_QUANTITIES = ("dice", "hd95_mm", "betti_error")
_LINE = 32
"""Characters of a line beside the axis of a picture."""


def topology_section(results: Results) -> Section:
    """All arms with the most labels, those that were run with fewer, their differences, and each label."""
    seen = results.over_labels
    return Section(
        title="Topology, position and the hybrid",
        text=(
            "Threshold 0.5, nothing calibrated. A label counts in a case only where it was annotated; all labels weigh "
            "the same. HD95 is in mm, of both directions the larger, and the span of the region if nothing was found; "
            "the Betti error is the sum of what three Betti numbers are wrong by. The paper's figures are not known.",
        ),
        tables=(_arms_table(seen), difference_table(seen, _pairs(seen), _QUANTITIES), _labels_table(results)),
        figures=_picture(seen),
    )


def _arms(results: Results, **axes: str | int | None) -> list[Arm]:
    return [topo_arm(results, *key, **axes) for key in (*MAIN, *others_run(results))]


def _arms_table(results: Results) -> Table:
    rows: list[list[Cell]] = []
    counts = label_counts(results)
    for count in counts:
        for arm in _arms(results, labels=count):
            runs = results.runs(arm)
            if not runs and count != counts[-1]:
                continue
            steps = {record.steps for record in runs.values()}
            cells = estimates(results, arm, _QUANTITIES)
            shown_steps: Cell = steps.pop() if len(steps) == 1 else "unequal" if steps else NOT_RUN
            rows.append([arm.title, count, len(runs), *cells, spread(results, arm, "dice"), shown_steps])
    return Table(
        columns=("model", "labels", "runs", *map(heading, _QUANTITIES), "Dice, SD of runs", "steps"),
        rows=rows,
        caption=f"Means over labels and over {num_positive(results)} cases; {about(results)}",
    )


def _pairs(results: Results) -> dict[str, tuple[Arm, Arm]]:
    """What the claims are about, at every number of labels."""
    pairs = {}
    for count in label_counts(results):
        for claim in TOPO_CLAIMS:
            for part in claim.parts(results):
                first, second = (replace(arm, axes={**arm.axes, "labels": count}) for _, arm in part.terms)
                pairs[f"{count} labels: {part.title}"] = (first, second)
    return pairs


def _labels_table(results: Results) -> Table:
    """Dice of every label alone, with the most labels."""
    names = label_names(results)
    studies = {label: replace(results, view=replace(results.view, label=label)) for label in names}
    rows: list[list[Cell]] = []
    for arm in _arms(results):
        cells = [estimates(study, arm, ("dice",))[0] for study in studies.values()]
        rows.append([arm.title, *cells])
    return Table(
        columns=("model", *(f"Dice, {name}" for name in names.values())),
        rows=rows,
        caption=f"With {results.reference.get('labels', NOT_RUN)} labels; {about(results)}",
    )


def label_names(results: Results) -> dict[int, str]:
    """Name by label value, of the rows that say so."""
    found: dict[int, str] = {}
    for record in results.records:
        found |= {int(value): name for value, name in record.label_names.items()}
    return dict(sorted(found.items())) or {results.view.label or 1: "the label"}


def _picture(results: Results) -> Sequence[Picture]:
    panels = {}
    for name in _QUANTITIES:
        values = {fill(arm.title, _LINE): estimate(results, arm, name) for arm in _arms(results)}
        found = {title: value for title, value in values.items() if value is not None}
        if not found:
            return ()
        panels[heading(name)] = found
    return (interval_figure(panels, caption=f"Means over labels with their intervals; {about(results)}"),)
