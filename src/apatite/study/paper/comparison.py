"""The main comparison: nnU-Net, the ViT from scratch and the pre-trained one, each as it is and calibrated."""

from apatite.report.figures.intervals import interval_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.arms import main_arms
from apatite.study.paper.cells import about, difference_table, estimates, heading, num_positive, spread
from apatite.study.paper.contrasts import estimate
from apatite.study.paper.published import MAIN, TAG
from apatite.study.paper.results import Arm, Reading, Results
from apatite.study.sweep.rows import EQUAL_TIME

_QUANTITIES = ("dice", "precision", "recall", "volume_error_mm3", "volume_bias_mm3")
_COMPARED = ("dice", "volume_error_mm3")


def comparison_section(results: Results) -> Section:
    """The table with the paper's figures beside it, paired differences, and a picture of both."""
    arms = _arms(results)
    pictures = _picture(results, list(arms.values()))
    return Section(
        title="Main comparison",
        text=(
            "The paper calibrates its own models and shows nnU-Net as it is; here every model is calibrated in the "
            "same way on the development split, and shown with and without.",
        ),
        tables=(_table(results, arms), difference_table(results, _pairs(arms), _COMPARED)),
        figures=pictures,
    )


def _arms(results: Results) -> dict[tuple[str, Reading], Arm]:
    arms = main_arms(results)
    if EQUAL_TIME in results.values("init"):
        title = "ViT, from scratch for as long as both take, calibrated"
        arms[EQUAL_TIME, "calibrated"] = results.arm(title, "calibrated", init=EQUAL_TIME)
    return arms


def _table(results: Results, arms: dict[tuple[str, Reading], Arm]) -> Table:
    rows: list[list[Cell]] = []
    for key, arm in arms.items():
        printed = MAIN.get(key)
        cells = estimates(results, arm, _QUANTITIES)
        paper = [printed.dice, printed.volume_error_mm3] if printed else [None, None]
        rows.append([arm.title, len(results.runs(arm)), *cells, spread(results, arm, "dice"), *paper])
    return Table(
        columns=(
            "model", "runs", *map(heading, _QUANTITIES), "Dice, SD of runs",
            f"Dice, {TAG}", f"{heading('volume_error_mm3')}, {TAG}",
        ),
        rows=rows,
        caption=f"Means over {num_positive(results)} cases with calcium; {about(results)} The paper's intervals are "
        "percentiles of 1,000 resamples on other data.",
    )  # fmt: skip


def _pairs(arms: dict[tuple[str, Reading], Arm]) -> dict[str, tuple[Arm, Arm]]:
    ours = arms["mae", "calibrated"]
    against: list[tuple[str, Reading]] = [
        ("scratch", "calibrated"), (EQUAL_TIME, "calibrated"),
        ("nnunet", "raw"), ("nnunet", "calibrated"), ("mae", "raw"),
    ]  # fmt: skip
    pairs = {f"{ours.title} − {arms[key].title}": (ours, arms[key]) for key in against if key in arms}
    calibrated, raw = arms["nnunet", "calibrated"], arms["nnunet", "raw"]
    return {**pairs, f"{calibrated.title} − {raw.title}": (calibrated, raw)}


def _picture(results: Results, arms: list[Arm]) -> tuple[Picture, ...]:
    panels = {}
    for name in _COMPARED:
        found = {arm.title: value for arm in arms if (value := estimate(results, arm, name)) is not None}
        if not found:
            return ()
        panels[heading(name)] = found
    return (interval_figure(panels, caption=f"Means and intervals; {about(results)}"),)
