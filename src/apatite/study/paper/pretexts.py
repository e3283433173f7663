"""The third comparison: one Swin by its pretext task, beside a poster's averages, and what SMIT is ahead of each."""

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
from apatite.study.paper.poster import AVERAGES, TAG_CT, TAG_MR
from apatite.study.paper.results import Arm, Results
from apatite.study.paper.smit_arms import MAIN, others_run, pretext_arm
from apatite.study.paper.smit_claims import SMIT_CLAIMS
from apatite.study.sweep.rows import SWIN

_QUANTITIES = ("dice", "hd95_mm")
_LINE = 32
"""Characters of a line beside the axis of a picture."""


def pretexts_section(results: Results) -> Section:
    """All arms with the most labels, those that were run with fewer, and what the claims are about."""
    seen = results.over_labels
    return Section(
        title="Pretext tasks",
        text=(
            "Threshold 0.5, nothing calibrated; a label counts in a case only where it was annotated; all labels weigh "
            "the same. All pre-trainings of one model take the same number of steps, those “for the time of” another "
            "the same seconds. The poster's averages are of other scans, organs and sizes, and were checked against "
            "nothing: the order alone can be looked at.",
        ),
        tables=(_arms_table(seen), difference_table(seen, _pairs(seen), _QUANTITIES)),
        figures=_picture(seen),
    )


def pretext_keys(results: Results) -> list[tuple[str, str]]:
    """Networks and beginnings, those that are always shown first."""
    return [*MAIN, *others_run(results)]


def _arms_table(results: Results) -> Table:
    rows: list[list[Cell]] = []
    counts = label_counts(results)
    for count in counts:
        for network, init in pretext_keys(results):
            arm = pretext_arm(results, network, init, labels=count)
            runs = results.runs(arm)
            if not runs and count != counts[-1]:
                continue
            printed = AVERAGES.get(init, (None, None)) if network == SWIN and count == counts[-1] else (None, None)
            steps: set[Cell] = {record.steps for record in runs.values()}
            shown_steps: Cell = steps.pop() if len(steps) == 1 else "unequal" if steps else NOT_RUN
            cells = estimates(results, arm, _QUANTITIES)
            rows.append([arm.title, count, len(runs), *cells, spread(results, arm, "dice"), shown_steps, *printed])
    return Table(
        columns=("model", "labels", "runs", *map(heading, _QUANTITIES), "Dice, SD of runs", "steps", TAG_CT, TAG_MR),
        rows=rows,
        caption=f"Means over labels and over {num_positive(results)} cases; {about(results)}",
    )


def _pairs(results: Results) -> dict[str, tuple[Arm, Arm]]:
    """The claims' differences of two arms at every number of labels, and MAE beside its own scratch."""
    found: dict[str, tuple[Arm, Arm]] = {}
    for count in label_counts(results):
        at = {"labels": count}
        for part in (part for claim in SMIT_CLAIMS for part in claim.parts(results) if len(part.terms) == 2):
            first, second = (replace(arm, axes={**arm.axes, **at}) for _, arm in part.terms)
            found[f"{count} labels: {part.title}"] = (first, second)
        (network, scratch), (_, mae) = MAIN[-2:]
        arms = pretext_arm(results, network, mae, **at), pretext_arm(results, network, scratch, **at)
        found[f"{count} labels: ViT, MAE − from scratch"] = arms
    return found


def _picture(results: Results) -> Sequence[Picture]:
    panels = {}
    for name in _QUANTITIES:
        arms = [pretext_arm(results, *key) for key in pretext_keys(results)]
        found = {fill(arm.title, _LINE): value for arm in arms if (value := estimate(results, arm, name)) is not None}
        if not found:
            return ()
        panels[heading(name)] = found
    return (interval_figure(panels, caption=f"Means over labels with their intervals; {about(results)}"),)
