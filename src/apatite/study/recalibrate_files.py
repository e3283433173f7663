"""What a recalibration leaves on disk: the fitted package, the page before and after, and the numbers behind it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_json, commit_text, committed_folder
from apatite.core.watch import Watch, unwatched
from apatite.io.model_package import copy_calibrated
from apatite.io.store import Prepared
from apatite.report.html import render_report
from apatite.report.numbers import Cell, estimate_json
from apatite.study.evaluate import EvaluateConfig, Evaluation, evaluate
from apatite.study.intervals import IntervalConfig
from apatite.study.outcome_table import outcomes_csv
from apatite.study.recalibrate import Recalibration
from apatite.study.recalibrate_page import VALUES, fitted_words, recalibration_sections
from apatite.study.recalibrate_verdict import Verdict, verdict_of
from apatite.study.site_fit import site_json

MODEL, PAGE, CASES = "model", "recalibration.html", "cases.csv"


@dataclass(frozen=True, kw_only=True)
class WrittenRecalibration:
    """Where everything lies, and what was said.

    Attributes:
        folder: Holds the four below.
        package: The model with the site's calibration.
        report: The page.
        values: The content of `recalibration.json`.
        lines: For the terminal.
    """

    folder: Path
    package: Path
    report: Path
    values: dict[str, Any]
    lines: list[str]


def write_recalibration(
    recalibration: Recalibration, package: Path, prepared: Prepared, out: Path, watch: Watch = unwatched
) -> WrittenRecalibration:
    """Write `model/`, `recalibration.html`, `recalibration.json` and `cases.csv`, all or nothing.

    Args:
        recalibration: What was found.
        package: The model package that was recalibrated; it stays as it is.
        prepared: The site's data.
        out: Must not exist.
        watch: Shows progress.

    Raises:
        DataError: the folder exists.
    """
    calibration = recalibration.site.calibration
    settings = EvaluateConfig(
        intervals=IntervalConfig(seed=recalibration.config.seed, resamples=max(recalibration.config.resamples, 1)),
        burden_label=None,
    )
    evaluation = evaluate(recalibration.outcomes, settings, label_names=recalibration.label_names, watch=watch)
    verdicts = {label: verdict_of(recalibration, evaluation, label) for label in evaluation.labels}
    values = _values(recalibration, evaluation, verdicts)
    provenance: dict[str, Cell] = {
        "model": calibration.model_digest[:16],
        "data": str(prepared.about["manifest_sha256"])[:16],
        "patients": recalibration.num_patients,
        "folds": recalibration.num_folds,
    }
    page = render_report(
        "Recalibration for a site",
        recalibration_sections(recalibration, evaluation, verdicts),
        provenance,
        domains=calibration.domains,
        subtitle="before and after, on patients that the fit did not see",
    )
    with committed_folder(out) as part:
        copy_calibrated(package, part / MODEL, calibration.to_dict(), calibration.domains, calibration.burden_dict())
        commit_text(part / PAGE, page)
        commit_json(part / VALUES, values)
        commit_text(part / CASES, outcomes_csv(recalibration.outcomes))
    return WrittenRecalibration(
        folder=out, package=out / MODEL, report=out / PAGE, values=values, lines=_lines(recalibration, verdicts)
    )


def _values(recalibration: Recalibration, evaluation: Evaluation, verdicts: Mapping[int, Verdict]) -> dict[str, Any]:
    return {
        "patients": recalibration.num_patients,
        "folds": recalibration.num_folds,
        "verdicts": {
            str(label): {"sentence": v.sentence, "is_better": v.is_better, "gain_mm3": estimate_json(v.gain)}
            for label, v in verdicts.items()
        },
        "differences": [
            {
                "quantity": d.quantity,
                "label": d.label,
                "hu_gate": d.hu_gate,
                "cases": d.num_cases,
                "after_minus_before": estimate_json(d.estimate),
            }
            for d in evaluation.differences
        ],
        "before": None if recalibration.old is None else recalibration.old.to_dict(),
        "after": site_json(recalibration.site),
    }


def _lines(recalibration: Recalibration, verdicts: Mapping[int, Verdict]) -> list[str]:
    head = f"{recalibration.num_patients} patients ({', '.join(recalibration.site.calibration.domains)})"
    said = [f"{recalibration.label_names[label]}: {verdict.sentence}" for label, verdict in verdicts.items()]
    return [head, *fitted_words(recalibration), *said]
