"""An evaluation on disk: `cases.csv`, `summary.json` and `report.html`.

`summary.json` keeps the keys of nnU-Net's file of that name, with nnU-Net's definitions, so scripts that read it go on
working; everything else stands under `apatite`. Not-a-number is written as null.

Source: nnU-Net v2, `evaluate_predictions.py`, for the keys.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from apatite.core.commit import commit_json, commit_text
from apatite.core.config import dump
from apatite.report.html import render_report
from apatite.report.numbers import Cell, estimate_json, json_number
from apatite.study.evaluate import Evaluation
from apatite.study.grouping import GroupAgreement
from apatite.study.outcome_table import outcomes_csv
from apatite.study.outcomes import CaseOutcome
from apatite.study.probability_json import probability_json
from apatite.study.sections import evaluation_sections
from apatite.study.summary import Summary

Files = Mapping[str, tuple[str, str]]
"""Case → prediction file and reference file."""


def write_evaluation(
    evaluation: Evaluation,
    folder: Path,
    *,
    provenance: Mapping[str, Cell],
    domains: Sequence[str] = (),
    files: Files | None = None,
) -> Path:
    """Write the three files, each whole or not at all.

    Args:
        evaluation: What to write.
        folder: Made when missing; files of an earlier evaluation are replaced.
        provenance: What made it, for the page.
        domains: Where the data come from, for the page.
        files: Names of the primary model's predictions and of the references, for nnU-Net's keys.

    Returns:
        The path of the page.
    """
    commit_text(folder / "cases.csv", cases_csv(evaluation))
    commit_json(folder / "summary.json", summary_json(evaluation, files or {}))
    page = render_report(
        "Evaluation",
        evaluation_sections(evaluation),
        provenance,
        domains=domains,
        subtitle=", ".join(evaluation.models),
    )
    commit_text(folder / "report.html", page)
    return folder / "report.html"


def cases_csv(evaluation: Evaluation) -> str:
    """One line per model, case, label and HU gate; undefined ratios are empty."""
    return outcomes_csv(evaluation.outcomes)


def summary_json(evaluation: Evaluation, files: Files) -> dict[str, Any]:
    """The content of `summary.json`: nnU-Net's keys for the primary model without gate, ours beside them."""
    outcomes = evaluation.outcomes[evaluation.primary]
    gate = evaluation.gates[0]
    chosen = [outcome for outcome in outcomes if outcome.hu_gate == gate]
    return {
        **nnunet_summary(chosen, files),
        "apatite": {
            "primary": evaluation.primary,
            "models": list(evaluation.models),
            "label_names": {str(label): name for label, name in evaluation.label_names.items()},
            "config": dump(evaluation.config),
            "summaries": [_summary(summary) for summary in evaluation.summaries],
            "differences": [
                {**asdict(difference), "estimate": estimate_json(difference.estimate)}
                for difference in evaluation.differences
            ],
            "label_means": [
                {**asdict(mean), "estimates": {name: estimate_json(e) for name, e in mean.estimates.items()}}
                for mean in evaluation.label_means
            ],
            "probability": probability_json(evaluation),
        },
    }


def nnunet_summary(outcomes: Sequence[CaseOutcome], files: Files) -> dict[str, Any]:
    """`metric_per_case`, `mean` and `foreground_mean` as nnU-Net defines them.

    Its means run over all cases in which a value is defined, so a false finding in a calcium-free case counts as
    Dice 0. Labels that were not annotated in a case are missing from it.
    """
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for outcome in outcomes:
        metrics.setdefault(outcome.case_id, {})[str(outcome.label)] = _nnunet_metrics(outcome)
    labels = sorted({label for case in metrics.values() for label in case}, key=int)
    means = {label: _nan_means([case[label] for case in metrics.values() if label in case]) for label in labels}
    return {
        "metric_per_case": [
            {
                "metrics": {label: _json_safe(values) for label, values in case.items()},
                "prediction_file": files[case_id][0] if case_id in files else None,
                "reference_file": files[case_id][1] if case_id in files else None,
                "case_id": case_id,
            }
            for case_id, case in metrics.items()
        ],
        "mean": {label: _json_safe(values) for label, values in means.items()},
        "foreground_mean": _json_safe(_nan_means(list(means.values()))),
    }


def _nnunet_metrics(outcome: CaseOutcome) -> dict[str, float]:
    tp, fp, fn = outcome.true_positive, outcome.false_positive, outcome.false_negative
    return {
        "Dice": outcome.overlap.dice,
        "IoU": tp / (tp + fp + fn) if tp + fp + fn else math.nan,
        "TP": tp,
        "FP": fp,
        "FN": fn,
        "TN": outcome.true_negative,
        "n_pred": tp + fp,
        "n_ref": tp + fn,
    }


def _nan_means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = {}
    for key in rows[0] if rows else ():
        known = [row[key] for row in rows if not math.isnan(row[key])]
        means[key] = float(np.mean(known)) if known else math.nan
    return means


def _json_safe(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if isinstance(value, int) else json_number(value) for key, value in values.items()}


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "model": summary.model,
        "label": summary.label,
        "hu_gate": summary.hu_gate,
        "stratum": summary.stratum,
        "num_cases": summary.num_cases,
        "num_patients": summary.num_patients,
        "num_positive": summary.num_positive,
        "num_free": summary.num_free,
        "num_unpredicted": summary.num_unpredicted,
        "estimates": {name: estimate_json(estimate) for name, estimate in summary.estimates.items()},
        "bland_altman": {
            scale: {
                key: json_number(value) if isinstance(value, float) else value for key, value in asdict(found).items()
            }
            for scale, found in summary.bland_altman.items()
        },
        "concordance": {name: json_number(value) for name, value in summary.concordance.items()},
        "burden_groups": {definition: _groups(found) for definition, found in summary.groups.items()},
    }


def _groups(found: GroupAgreement) -> dict[str, Any]:
    return {
        "cuts": found.cuts.to_dict(),
        "num_cases": found.num_cases,
        "accuracy": estimate_json(found.accuracy),
        "within_one": estimate_json(found.within_one),
        "kappa": estimate_json(found.kappa),
        "matrix": found.matrix.tolist(),
    }
