"""How every row is judged, whatever made it: its own calibration, then both splits against the same truth.

A threshold is chosen with the labels that the row had; what it is worth is counted against the labels that are true.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apatite.calibrate.calibration import Calibration
from apatite.calibrate.readings import readings_of
from apatite.core.errors import DataError
from apatite.core.watch import Watch
from apatite.io.store import Prepared
from apatite.report.numbers import estimate_json
from apatite.study.calibrate import TOO_FEW, CalibrateConfig, calibrate
from apatite.study.cases import CasePredictor
from apatite.study.intervals import IntervalConfig
from apatite.study.judge import CALIBRATED as SUFFIX
from apatite.study.judge import judge
from apatite.study.outcomes import CaseOutcome
from apatite.study.run import labelled_cases
from apatite.study.summary import summarise
from apatite.study.sweep.grid import Grid
from apatite.study.sweep.label_means import label_means
from apatite.study.sweep.record import CALIBRATED, RAW, SPLITS

MAIN = (
    "dice", "precision", "recall", "volume_error_mm3", "volume_bias_mm3", "volume_error_all_mm3", "hd95_mm",
    "betti_error",
)  # fmt: skip
"""Quantities of a record's summary; all others can be computed from its outcomes."""
Titled = dict[str, list[CaseOutcome]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What was found.

    Attributes:
        calibration: None with too few development cases.
        outcomes: By split, then `raw` and `calibrated`.
        seconds: Of `calibrate` and `evaluate`.
    """

    calibration: Calibration | None
    outcomes: dict[str, Titled]
    seconds: dict[str, float]


def judge_row(
    predictor: CasePredictor, digest: str, own: Prepared, truth: Prepared, grid: Grid, watch: Watch
) -> Judged:
    """Calibrate a model with the labels it had, and count its predictions on development and test.

    Args:
        predictor: The model.
        digest: Names it.
        own: With the labels that it learned from.
        truth: With those that it is judged by.
        grid: How to calibrate.
        watch: Shows progress.

    Raises:
        DataError: a split holds no labelled case (`EMPTY_SPLIT`), or a case cannot be read.
    """
    begun = time.monotonic()
    calibration = _calibrated(predictor, digest, own, grid, watch)
    calibrated = time.monotonic()
    outcomes = {}
    for split in SPLITS:
        found = judge(RAW, predictor, calibration, truth.manifest, labelled_cases(truth, split), watch)
        titles = {RAW: RAW, RAW + SUFFIX: CALIBRATED}
        outcomes[split] = {titles[title]: rows for title, rows in found.items()}
    seconds = {"calibrate": calibrated - begun, "evaluate": time.monotonic() - calibrated}
    return Judged(calibration=calibration, outcomes=outcomes, seconds=seconds)


def calibration_values(calibration: Calibration | None) -> dict[str, Any] | None:
    """As a model card holds them, with the frozen burden groups under `burden`.

    The resampled thresholds are left out: their spread is in `low` and `high`, and they are most of the bytes.
    """
    if calibration is None:
        return None
    values = calibration.to_dict()
    labels = {
        label: {
            reading: {key: value for key, value in fit.items() if key != "resampled_thresholds"}
            for reading, fit in fits.items()
        }
        for label, fits in values["labels"].items()
    }
    return values | {"labels": labels, "burden": calibration.burden_dict()}


def main_estimates(
    outcomes: Mapping[str, Titled], label_names: Mapping[int, str], resamples: int
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By split and title: label, reading, counts and the quantities of `MAIN` with their intervals by patient."""
    config = IntervalConfig(resamples=resamples)
    readings = readings_of(label_names)
    return {
        split: {
            title: [
                _estimates(rows, label, reading, gate, config)
                for label in sorted({row.label for row in rows})
                for reading, gate in readings.items()
            ]
            for title, rows in titles.items()
        }
        for split, titles in outcomes.items()
    }


def estimates_of(outcomes: Mapping[str, Titled], label_names: Mapping[int, str], resamples: int) -> dict[str, Any]:
    """What a record says of its outcomes: `summary`, `label_means` and `label_names`."""
    return {
        "summary": main_estimates(outcomes, label_names, resamples),
        "label_means": label_means(outcomes, label_names, resamples),
        "label_names": {str(value): name for value, name in label_names.items()},
    }


def _estimates(
    rows: Sequence[CaseOutcome], label: int, reading: str, gate: float | None, config: IntervalConfig
) -> dict[str, Any]:
    found = summarise("", [row for row in rows if (row.label, row.hu_gate) == (label, gate)], (), config)
    return {
        "label": label,
        "reading": reading,
        "num_cases": found.num_cases,
        "num_patients": found.num_patients,
        "num_positive": found.num_positive,
        "num_unpredicted": found.num_unpredicted,
        "estimates": {name: dict(estimate_json(found.estimates[name])) for name in MAIN},
    }


def _calibrated(predictor: CasePredictor, digest: str, own: Prepared, grid: Grid, watch: Watch) -> Calibration | None:
    cases = labelled_cases(own, "development")
    # Rows are compared by volume and overlap: all patients choose the threshold, none is kept for an interval.
    config = CalibrateConfig(drop_empty_cases=grid.drop_empty_cases, interval_share=0.0)
    try:
        return calibrate(predictor, own.manifest, cases, config, watch, digest)
    except DataError as error:
        if error.code != TOO_FEW:
            raise
        return None
