"""The page of a recalibration: the verdict, then everything before and after it."""

from collections.abc import Mapping

import numpy as np

from apatite.calcium.rule import CALCIUM_HU
from apatite.calibrate.bias_line import line_of
from apatite.calibrate.readings import GATED, calcium_label
from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import bootstrap_interval
from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.coverage import interval_coverages
from apatite.study.evaluate import Evaluation
from apatite.study.figures import agreement_picture
from apatite.study.intervals import IntervalConfig, difference, interval
from apatite.study.recalibrate import AFTER, BEFORE, Recalibration
from apatite.study.recalibrate_verdict import Verdict
from apatite.study.site_fit import threshold_before
from apatite.study.tables import agreement_table, comparison_table, difference_table

WITH_LINE = "recalibrated, with the bias line"
VALUES = "recalibration.json"


def recalibration_sections(
    recalibration: Recalibration, evaluation: Evaluation, verdicts: Mapping[int, Verdict]
) -> list[Section]:
    """The page, part by part: the verdict first."""
    sections = [_verdict_section(recalibration, verdicts)]
    for label in evaluation.labels:
        name = f"{recalibration.label_names[label]}: " if len(evaluation.labels) > 1 else ""
        reading = recalibration.deployed_reading(label)
        gate = CALCIUM_HU if reading == GATED else None
        picture = agreement_picture(evaluation, label, gate, (BEFORE, AFTER))
        sections.append(
            Section(
                title=f"{name}Before and after",
                tables=[
                    comparison_table(evaluation, label, gate),
                    difference_table(evaluation, label, gate),
                    agreement_table(evaluation, label, gate),
                ],
                figures=() if picture is None else (picture,),
            )
        )
        if label == calcium_label(recalibration.label_names):
            sections.append(_interval_section(recalibration, evaluation, label, gate))
        if label in recalibration.reliability:
            sections.append(_probability_section(recalibration, label, f"{name}Probability"))
        sections.append(_line_section(recalibration, evaluation, label, gate, f"{name}Bias line"))
    return [*sections, _limits_section(recalibration)]


def _verdict_section(recalibration: Recalibration, verdicts: Mapping[int, Verdict]) -> Section:
    names = recalibration.label_names
    return Section(
        title="Verdict",
        text=[f"{names[label]}: {verdict.sentence}" for label, verdict in verdicts.items()],
        points=fitted_words(recalibration),
    )


def fitted_words(recalibration: Recalibration) -> list[str]:
    """What the written package holds, line by line."""
    calibration, names = recalibration.site.calibration, recalibration.label_names
    words = []
    for label in names:
        reading = recalibration.deployed_reading(label)
        if (label, reading) not in recalibration.fold_thresholds:
            words.append(f"{names[label]}: annotated in no case of the site, so nothing was fitted for it")
            continue
        old = threshold_before(recalibration.old, (label, reading))
        new = calibration.threshold(label, reading)
        folds = recalibration.fold_thresholds[label, reading]
        words.append(
            f"{names[label]}, {reading}: threshold {old:.3f} before, {new:.3f} in the package written "
            f"({folds[0]:.3f} to {folds[-1]:.3f} in the fits without a fold)"
        )
        if label in calibration.temperatures:
            fit = calibration.temperatures[label]
            words.append(
                f"{names[label]}: temperature {fit.temperature:.3f} [{fit.low:.3f}; {fit.high:.3f}], "
                f"offset {fit.offset:.3f}"
            )
    for reading, fit in calibration.intervals.items():
        words += [f"interval, {reading}: {sentence}" for sentence in fit.sentences()]
    if calcium_label(names) is not None and not calibration.intervals:
        words.append("no interval on the volume: too few patients of any slice thickness")
    return words


def _interval_section(recalibration: Recalibration, evaluation: Evaluation, label: int, gate: float | None) -> Section:
    promised = recalibration.config.interval.coverage
    rows: list[list[Cell]] = []
    for model in (BEFORE, AFTER):
        for cover in interval_coverages(evaluation.rows(model, label, gate)):
            cells: list[Cell] = [cover.num_cases, cover.num_without, cover.coverage, cover.width_mm3]
            rows.append([model, cover.group, *cells])
    table = Table(
        columns=("intervals", "slices", "cases", "without", "coverage", "mean width (mm³)"),
        rows=rows,
        caption="Share of the cases whose annotated volume lies in its interval, with the exact binomial 95 % "
        f"interval; {promised:.0%} is promised. Where a patient has several cases, the binomial interval takes them "
        "for independent. Intervals of the recalibrated model were fitted without the case's patient; on the site "
        "that they come from they cover as promised almost by construction.",
    )
    is_old = any(row[0] == BEFORE for row in rows)
    text = "How often the old intervals hold on this site is the first thing to look at."
    if not is_old:
        text = "The model came without intervals for these cases."
    if not rows:
        text = "Neither the model as it came nor the recalibrated one has an interval for these cases."
    return Section(title="Interval on the volume", text=(text,), tables=(table,) if rows else ())


def _probability_section(recalibration: Recalibration, label: int, title: str) -> Section:
    rows: list[list[Cell]] = [
        [name, found.ece, found.brier, found.nll]
        for name, found in zip((BEFORE, AFTER), recalibration.reliability[label], strict=True)
    ]
    return Section(
        title=title,
        tables=(
            Table(
                columns=("probabilities", "ECE", "Brier", "NLL"),
                rows=rows,
                caption="Calibration error (15 bins of equal weight), Brier score and negative log-likelihood near "
                "calcium or that label, with 95 % intervals by patient; recalibrated temperatures were fitted without "
                "the case's patient.",
            ),
        ),
    )


def _line_section(
    recalibration: Recalibration, evaluation: Evaluation, label: int, gate: float | None, title: str
) -> Section:
    settings = evaluation.config.intervals
    lines: list[list[Cell]] = []
    for model in (BEFORE, AFTER):
        outcomes = evaluation.rows(model, label, gate)
        pairs = np.array([(o.predicted_mm3, o.reference_mm3) for o in outcomes], dtype=np.float64)
        patients = [o.patient_id for o in outcomes]
        lines.append([model, len(pairs), *(_line_estimate(pairs, part, patients, settings) for part in (0, 1))])
    return Section(
        title=title,
        text=(
            "ln(V + 1) = intercept + slope · ln(V̂ + 1); slope 1 and intercept 0 are right. The line is not applied by "
            "the package, because a corrected volume is no longer that of the label map; its numbers are in "
            f"{VALUES} for an analysis that wants them.",
        ),
        tables=(
            Table(
                columns=("volumes", "cases", "slope", "intercept"),
                rows=lines,
                caption="Least squares over cases, 95 % intervals by patient.",
            ),
            _line_gain_table(recalibration, label, gate, settings),
        ),
    )


def _line_estimate(pairs: np.ndarray, part: int, patients: list[str], settings: IntervalConfig) -> Estimate:
    return bootstrap_interval(
        pairs,
        lambda rows: line_of(rows)[part],
        patients,
        resamples=settings.resamples,
        method="percentile",
        seed=settings.seed,
    )


def _line_gain_table(recalibration: Recalibration, label: int, gate: float | None, settings: IntervalConfig) -> Table:
    """Whether the line helps beyond the threshold, on patients that it did not see."""
    chosen = [
        (row, corrected)
        for row, corrected in zip(recalibration.outcomes[AFTER], recalibration.corrected_mm3.tolist(), strict=True)
        if (row.label, row.hu_gate) == (label, gate)
    ]
    patients = [row.patient_id for row, _ in chosen]
    without = np.array([abs(row.predicted_mm3 - row.reference_mm3) for row, _ in chosen])
    with_line = np.array([abs(corrected - row.reference_mm3) for row, corrected in chosen])
    rows: list[list[Cell]] = [
        [AFTER, interval(without, np.mean, patients, settings, "mm³"), None],
        [
            WITH_LINE,
            interval(with_line, np.mean, patients, settings, "mm³"),
            difference(with_line, without, np.mean, patients, settings, "mm³"),
        ],
    ]
    return Table(
        columns=("volumes", "|ΔV|, all cases (mm³)", "difference (mm³)"),
        rows=rows,
        caption="Mean volume error with and without the line, both fitted without the case's patient.",
    )


def _limits_section(recalibration: Recalibration) -> Section:
    had_groups = recalibration.old is not None and bool(recalibration.old.burden)
    burden = (
        "Burden groups stay as they were: they are ranks in the cohort they were frozen on."
        if had_groups
        else "The model had no burden groups; where these cases allow any, they are ranks among them."
    )
    return Section(
        title="How this was done",
        points=(
            f"{recalibration.num_patients} patients in {recalibration.num_folds} folds. Every figure called "
            f"“{AFTER}” comes from fits without the case's fold; the package itself is fitted on all patients.",
            "The interval rests on volumes at thresholds that were chosen without the patient (cross-conformal). It "
            "covers as promised where leaving a fold out hardly moves the threshold; that is no guarantee.",
            burden,
            "The weights of the network were not changed. A site whose scans look different may need fine-tuning.",
        ),
    )
