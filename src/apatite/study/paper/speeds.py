"""When fine-tuning gets to most of what scratch ends with, by pretext task, and the curves on development."""

from collections.abc import Sequence

import numpy as np

from apatite.report.figures.curves import CurvePanel, learning_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.cells import NOT_RUN, label_counts
from apatite.study.paper.convergence import GOAL_SHARE, NEVER, reached
from apatite.study.paper.pretexts import pretext_keys
from apatite.study.paper.results import Arm, Results
from apatite.study.paper.smit_arms import pretext_arm
from apatite.study.sweep.rows import SCRATCH, Value


def convergence_section(results: Results) -> Section:
    """One row per number of labels and pretext task."""
    counts = label_counts(results)
    rows = [row for count in counts for row in _rows(results, count, is_last=count == counts[-1])]
    return Section(
        title="Convergence of fine-tuning",
        text=(
            f"A run gets there at the first look at which its Dice on development is at least {100 * GOAL_SHARE:g} % "
            "of what the run from scratch of the same network, seed and labels ends with. Between looks nothing is "
            "interpolated; what is reached first may be lost again.",
        ),
        tables=(
            Table(
                columns=(
                    "model",
                    "labels",
                    "runs",
                    "goal (Dice)",
                    "steps until then, by run",
                    "steps in all",
                    "last Dice",
                ),
                rows=rows,
                caption="Runs that have a twin from scratch; ∞: it never got there. Development, no test.",
            ),
        ),
        figures=_pictures(results, counts),
    )


def _rows(results: Results, count: Value, *, is_last: bool) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for network, init in pretext_keys(results):
        arm = pretext_arm(results, network, init, labels=count)
        found = reached(results, arm, pretext_arm(results, network, SCRATCH, labels=count))
        if found or is_last:
            records = list(results.runs(arm).values())
            steps = " ".join("∞" if run.step == NEVER else f"{run.step:.0f}" for run in found.values()) or NOT_RUN
            goal = float(np.mean([run.goal for run in found.values()])) if found else None
            last = [record.curve[-1][1] for record in records if record.curve]
            total = max((record.steps for record in records), default=None)
            ends: list[Cell] = [total, float(np.mean(last)) if last else None]
            rows.append([arm.title, count, len(found), goal, steps, *ends])
    return rows


def _pictures(results: Results, counts: Sequence[Value]) -> Sequence[Picture]:
    panels = []
    for count in counts:
        arms = [pretext_arm(results, *key, labels=count) for key in pretext_keys(results)]
        lines = {arm.title: line for arm in arms if (line := _mean_curve(results, arm))}
        if lines:
            title = f"{count} labels"
            panels.append(CurvePanel(title=title, x_label="step", y_label="Dice on development", lines=lines))
    if not panels:
        return ()
    return (learning_figure(panels, caption="Means over seeds of the Dice on development; looks that all seeds had."),)


def _mean_curve(results: Results, arm: Arm) -> tuple[list[float], list[float]] | None:
    """Over the looks that all runs of an arm had; None without any."""
    curves = [dict(record.curve) for record in results.runs(arm).values() if record.curve]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    if not shared:
        return None
    return [float(step) for step in shared], [float(np.mean([curve[step] for curve in curves])) for step in shared]
