"""Several labels as one figure: the mean over labels of each label's mean over the cases in which it was annotated.

A label that few cases have weighs as much as one that all have, and a case in which it was not looked for says nothing
about it. Patients are resampled with all that they have.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from apatite.calibrate.readings import readings_of
from apatite.report.numbers import estimate_json
from apatite.study.intervals import IntervalConfig, interval
from apatite.study.outcomes import CaseOutcome
from apatite.study.quantities import OVER_LABELS, QUANTITIES


def label_means(
    outcomes: Mapping[str, Mapping[str, Sequence[CaseOutcome]]], label_names: Mapping[int, str], resamples: int
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By split and title: reading, labels and estimates; empty where there are not several labels.

    Args:
        outcomes: By split, then title: one row per case, annotated label and gate.
        label_names: Name by label value.
        resamples: Of patients.
    """
    if len(label_names) < 2:
        return {}
    config = IntervalConfig(resamples=resamples)
    return {
        split: {
            title: [
                _means(reading, [row for row in rows if row.hu_gate == gate], config)
                for reading, gate in readings_of(label_names).items()
            ]
            for title, rows in titles.items()
        }
        for split, titles in outcomes.items()
    }


def mean_over_labels(rows: Float[np.ndarray, "rows 2"]) -> float:
    """The statistic of rows of a value and its label: the mean over labels of the mean of the values that are numbers.

    A label of which nothing is known is left out; nan where nothing is known of any.
    """
    known = rows[~np.isnan(rows[:, 0])]
    labels = known[:, 1].astype(np.int64)
    counts = np.bincount(labels)
    sums = np.bincount(labels, weights=known[:, 0])
    return float(np.mean(sums[counts > 0] / counts[counts > 0])) if len(known) else float("nan")


def with_labels(values: Float[np.ndarray, "rows"], rows: Sequence[CaseOutcome]) -> Float[np.ndarray, "rows 2"]:
    """Values beside their labels, as `mean_over_labels` takes them."""
    return np.stack([values, np.array([row.label for row in rows], dtype=np.float64)], axis=1)


def _means(reading: str, rows: Sequence[CaseOutcome], config: IntervalConfig) -> dict[str, Any]:
    labels = sorted({row.label for row in rows})
    estimates = {}
    for name in OVER_LABELS:
        quantity = QUANTITIES[name]
        chosen = quantity.chosen(rows)
        values = with_labels(quantity.values(chosen), chosen)
        patients = [row.patient_id for row in chosen]
        estimates[name] = dict(estimate_json(interval(values, mean_over_labels, patients, config, quantity.unit)))
    return {"reading": reading, "labels": labels, "estimates": estimates}
