"""How many cases fall into the right quartile of calcium volume, and whether two models differ in that.

Source: Jin et al. 2025 (arXiv 2507.01744): quartiles of the annotated test volumes, cases with calcium only; 153 of 209
right by the calibrated ViT, 105 by nnU-Net. McNemar 1947, in its exact form.
Differs: the paper gives no test.
"""

import numpy as np

from apatite.calcium.burden import paper_cuts
from apatite.metrics.paired import mcnemar
from apatite.report.figures.burden import confusion_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.grouping import group_agreement
from apatite.study.paper.arms import main_arms
from apatite.study.paper.cells import NOT_RUN, about, shown
from apatite.study.paper.contrasts import RIGHT_QUARTILE, Sample, estimate, sample
from apatite.study.paper.published import BURDEN, TAG
from apatite.study.paper.results import Arm, Results

_MIN_CASES = 4


def burden_section(results: Results) -> Section:
    """Counts beside the paper's, exact tests against nnU-Net, and confusion matrices of the first runs."""
    return Section(
        title="Burden groups",
        text=(
            "A case is right when its predicted volume falls into the same quartile of the reference volumes as its "
            "reference. The quartiles are those of these very cases, as in the paper; a deployed model has cut-points "
            "frozen on development instead.",
        ),
        tables=(_counts(results), _tests(results)),
        figures=_picture(results),
    )


def _counts(results: Results) -> Table:
    rows: list[list[Cell]] = []
    for key, arm in main_arms(results).items():
        found = sample(results, arm, RIGHT_QUARTILE)
        printed = BURDEN.get(key)
        paper: list[Cell] = [f"{printed[0]} of {printed[1]}", printed[0] / printed[1]] if printed else [None, None]
        right = " ".join(f"{int(np.nansum(row))}" for row in found.values) if found else NOT_RUN
        cases = len(found.cases) if found else NOT_RUN
        share = shown(estimate(results, arm, RIGHT_QUARTILE))
        rows.append([arm.title, len(found.runs) if found else 0, right, cases, share, *paper])
    return Table(
        columns=("model", "runs", "right, by run", "of", "share", f"right, {TAG}", f"share, {TAG}"),
        rows=rows,
        caption=f"Cases in the right quartile; {about(results)}",
    )


def _tests(results: Results) -> Table:
    """The first shared run of each pair: a mean of runs is right in half a case."""
    arms = main_arms(results)
    ours = arms["mae", "calibrated"]
    rows: list[list[Cell]] = []
    for reading in ("raw", "calibrated"):
        other = arms["nnunet", reading]
        shared = [run for run in results.runs(ours) if run in results.runs(other)]
        first = sample(results, ours, RIGHT_QUARTILE, shared[:1]) if shared else None
        second = sample(results, other, RIGHT_QUARTILE, shared[:1]) if shared else None
        rows.append([f"{ours.title} against {other.title}", *_mcnemar(first, second)])
    return Table(
        columns=("models", "patients", "right by the first alone", "by the second alone", "exact p"),
        rows=rows,
        caption="McNemar's exact test on the first run that both have, one case per patient.",
    )


def _mcnemar(first: Sample | None, second: Sample | None) -> list[Cell]:
    if first is None or second is None or len(first.cases) < _MIN_CASES:
        return [NOT_RUN] * 4
    # The test wants independent units; a patient's first case stands for the patient.
    places = list({patient: place for place, patient in reversed(list(enumerate(first.patients)))}.values())
    found = mcnemar(first.values[0][places] > 0.5, second.values[0][places] > 0.5)
    return [len(places), found.only_first, found.only_second, found.p_value]


def _picture(results: Results) -> tuple[Picture, ...]:
    matrices = {}
    for arm in (main_arms(results)["nnunet", "raw"], main_arms(results)["mae", "calibrated"]):
        matrix = _matrix(results, arm)
        if matrix is not None:
            matrices[arm.title] = matrix
    if not matrices:
        return ()
    caption = "Cases by quartile, first run of each model; shaded by row."
    return (confusion_figure(matrices, ("1", "2", "3", "4"), caption=caption),)


def _matrix(results: Results, arm: Arm) -> np.ndarray | None:
    for record in results.runs(arm).values():
        cases = [o for o in results.rows(record, arm.reading) if o.is_positive]
        if len(cases) >= _MIN_CASES:
            cuts = paper_cuts(np.array([o.reference_mm3 for o in cases]))
            return group_agreement(cases, cuts, results.view.intervals).matrix
    return None
