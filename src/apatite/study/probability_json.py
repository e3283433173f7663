"""What an evaluation found about probabilities and intervals, as plain values for `summary.json`."""

from dataclasses import asdict
from typing import Any

from apatite.calibrate.reliability import Reliability
from apatite.report.numbers import estimate_json, json_number
from apatite.study.coverage import interval_coverages
from apatite.study.evaluate import Evaluation
from apatite.study.probability import LabelProbability


def probability_json(evaluation: Evaluation) -> dict[str, Any]:
    """By calibrated model: scores and reliability curves per label, coverage of intervals per label and HU gate."""
    return {
        model: {
            "promised_coverage": found.promised,
            "labels": {str(label): _label(of_label) for label, of_label in found.labels.items()},
            "coverage": [cover for label in evaluation.labels for cover in _coverages(evaluation, model, label)],
        }
        for model, found in evaluation.probability.items()
    }


def _label(found: LabelProbability) -> dict[str, Any]:
    fit = found.fit
    return {
        "temperature": {
            "value": fit.temperature,
            "low": fit.low,
            "high": fit.high,
            "slope": fit.slope,
            "offset": fit.offset,
        },
        "before": _reliability(found.before),
        "after": _reliability(found.after),
        "soft_volume": [
            {
                "hu_gate": gate,
                "num_cases": soft.num_cases,
                "slope": estimate_json(soft.slope),
                "intercept": estimate_json(soft.intercept),
            }
            for gate, soft in found.soft.items()
        ],
    }


def _reliability(found: Reliability) -> dict[str, Any]:
    scores = {"ece": found.ece, "ece_found": found.ece_found, "ace": found.ace, "brier": found.brier, "nll": found.nll}
    curve = {
        name: [json_number(value) for value in getattr(found.curve, name).tolist()]
        for name in ("confidence", "frequency", "low", "high", "share")
    }
    return {
        **{name: estimate_json(score) for name, score in scores.items()},
        "curve": curve,
        "prevalence": found.prevalence,
        "num_cases": found.num_cases,
        "num_patients": found.num_patients,
    }


def _coverages(evaluation: Evaluation, model: str, label: int) -> list[dict[str, Any]]:
    return [
        {
            **asdict(cover),
            "label": label,
            "hu_gate": gate,
            "coverage": estimate_json(cover.coverage),
            "width_mm3": json_number(cover.width_mm3),
            "ratio": json_number(cover.ratio),
        }
        for gate in evaluation.gates
        for cover in interval_coverages(evaluation.rows(model, label, gate))
    ]
