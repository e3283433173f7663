"""Outcomes of one model on a labelled split: at 0.5 and, where it is calibrated, at its own thresholds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from apatite.calibrate.calibration import Calibration, thresholds_of
from apatite.calibrate.readings import calcium_label, gate_of, readings_of
from apatite.calibrate.soft_volume import soft_volume_mm3
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case, Manifest
from apatite.segment.predict import decide
from apatite.study.cases import CasePredictor, PredictedCase, predict_cases
from apatite.study.outcomes import CaseOutcome, outcome
from apatite.study.probability import is_summed

CALIBRATED = " + calibrated"
"""What is added to a model's name where its own thresholds are used."""

See = Callable[[PredictedCase], None]


def judge(  # noqa: PLR0913 - a model, its cases, and who looks on
    name: str,
    predictor: CasePredictor,
    calibration: Calibration | None,
    manifest: Manifest,
    cases: Sequence[Case],
    watch: Watch = unwatched,
    see: See | None = None,
) -> dict[str, list[CaseOutcome]]:
    """Count a model's predictions on the original slices, gated and ungated.

    Args:
        name: Of the model, in the tables.
        predictor: The model.
        calibration: Its calibration, or none.
        manifest: Where the cases' files are.
        cases: Labelled cases.
        watch: Shows progress.
        see: Is given every predicted case, for example to keep a picture of it.

    Returns:
        Outcomes under `name` (threshold 0.5) and, with a calibration, under `name + calibrated`; the latter have
        soft volumes and, for calcium, intervals, as far as the calibration has a temperature and intervals.
    """
    titles = {name: None} | ({name + CALIBRATED: calibration} if calibration is not None else {})
    outcomes: dict[str, list[CaseOutcome]] = {title: [] for title in titles}
    for found in predict_cases(predictor, manifest, cases, f"predicting, {name}", watch):
        for title, chosen in titles.items():
            for reading in readings_of(manifest.label_names):
                outcomes[title] += _outcomes(found, chosen, reading, manifest.label_names)
        if see is not None:
            see(found)
    return outcomes


def _outcomes(
    found: PredictedCase, calibration: Calibration | None, reading: str, label_names: Mapping[int, str]
) -> list[CaseOutcome]:
    """One row per annotated label. In the gated reading all rows carry the gate; only calcium is cut by it."""
    prediction = found.prediction
    thresholds = thresholds_of(calibration, prediction.label_values, reading)
    decided = decide(prediction.probability, prediction.label_values, thresholds)
    rows = [
        outcome(
            (decided == label).astype(np.float32),
            found.is_reference(label),
            found.scan,
            prediction.is_counted,
            0.5,
            hu_gate=gate_of(label, reading, label_names),
            case=found.case,
            label=label,
            analytic_mm3=found.analytic_mm3,
        )
        for label in prediction.label_values
        if label in found.annotated
    ]
    gate_hu = readings_of(label_names)[reading]
    return [replace(_with_estimates(row, found, calibration, reading, label_names), hu_gate=gate_hu) for row in rows]


def _with_estimates(
    row: CaseOutcome,
    found: PredictedCase,
    calibration: Calibration | None,
    reading: str,
    label_names: Mapping[int, str],
) -> CaseOutcome:
    """The same row with its soft volume and its interval, where the calibration has them."""
    if calibration is None:
        return row
    thickness_mm = found.case.slice_thickness_mm
    if row.label in calibration.temperatures:
        plane = found.prediction.label_values.index(row.label)
        is_part = is_summed(found, plane, reading, label_names)
        fit = calibration.temperatures[row.label]
        soft = soft_volume_mm3(found.prediction.probability[plane], is_part, found.scan.stack, fit, thickness_mm)
        row = replace(row, soft_mm3=soft)
    if row.label == calcium_label(label_names) and reading in calibration.intervals:
        interval = calibration.intervals[reading].interval(row.predicted_mm3, thickness_mm)
        row = row if interval is None else replace(row, low_mm3=interval.low, high_mm3=interval.high)
    return row
