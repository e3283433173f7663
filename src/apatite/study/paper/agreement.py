"""Volumes against the reference before and after calibration: Bland–Altman plots of one run of each model."""

import numpy as np

from apatite.metrics.agreement import bland_altman
from apatite.report.figures.agreement import AgreementPanel, bland_altman_figure
from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.outcomes import CaseOutcome
from apatite.study.paper.arms import nnunet, pretrained
from apatite.study.paper.cells import NOT_RUN
from apatite.study.paper.results import Arm, Results

_COLUMNS = ("bias (mm³)", "low limit (mm³)", "high limit (mm³)", "ratio", "low ratio", "high ratio")


def agreement_section(results: Results) -> Section:
    """Bias and limits in a table, the points in pictures; the first run of each arm, never a mean of runs."""
    arms = [make(results, reading) for make in (pretrained, nnunet) for reading in ("raw", "calibrated")]
    rows: list[list[Cell]] = []
    panels: list[AgreementPanel] = []
    for arm in arms:
        cases = _first_run(results, arm)
        rows.append([arm.title, len(cases) if cases else NOT_RUN, *_numbers(cases)])
        if len(cases) >= 2:
            panels.append(
                AgreementPanel(title=arm.title, predicted_mm3=_predicted(cases), reference_mm3=_reference(cases))
            )
    table = Table(
        columns=("model", "cases", *_COLUMNS),
        rows=rows,
        caption="Bias and 95 % limits of agreement, in mm³ and as ratios (V̂+1)/(V+1), over cases with calcium. One "
        "run each, the lowest seed: a mean of runs would agree better than any of them.",
    )
    # Two panels in a row: before and after calibration of one model.
    pictures = [
        bland_altman_figure(
            panels[start : start + 2],
            caption="Predicted minus reference against their mean, in mm³ above and as ratios below: bias (solid) and "
            "95 % limits of agreement (dashed).",
        )
        for start in range(0, len(panels), 2)
    ]
    return Section(title="Volume agreement before and after calibration", tables=(table,), figures=pictures)


def _first_run(results: Results, arm: Arm) -> list[CaseOutcome]:
    for record in results.runs(arm).values():
        return [o for o in results.rows(record, arm.reading) if o.is_positive]
    return []


def _predicted(cases: list[CaseOutcome]) -> np.ndarray:
    return np.array([o.predicted_mm3 for o in cases], dtype=np.float64)


def _reference(cases: list[CaseOutcome]) -> np.ndarray:
    return np.array([o.reference_mm3 for o in cases], dtype=np.float64)


def _numbers(cases: list[CaseOutcome]) -> list[Cell]:
    if len(cases) < 2:
        return [NOT_RUN if not cases else None] * len(_COLUMNS)
    raw = bland_altman(_predicted(cases), _reference(cases), "raw")
    log = bland_altman(_predicted(cases), _reference(cases), "log")
    return [raw.bias, raw.low_limit, raw.high_limit, *log.ratios]
