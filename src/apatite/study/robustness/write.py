"""A robustness measurement on disk: `rows.csv`, `summary.json`, `report.html`, and a model that carries its ranges."""

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_json, commit_text
from apatite.core.config import dump
from apatite.core.errors import ConfigError
from apatite.core.volume import Estimate
from apatite.io.manifest import guarded
from apatite.io.model_package import copy_validated
from apatite.io.run_folder import environment
from apatite.report.html import render_report
from apatite.report.numbers import estimate_json, json_number
from apatite.segment.predict import package_of
from apatite.study.judge import CALIBRATED
from apatite.study.robustness.curves import Curve, Point
from apatite.study.robustness.rows import COLUMNS
from apatite.study.robustness.run import Robustness
from apatite.study.robustness.sections import robustness_sections
from apatite.study.robustness.validated import ranges_for_card


def write_robustness(found: Robustness, folder: Path) -> Path:
    """Write the three files, each whole or not at all; those of an earlier measurement are replaced.

    Returns:
        The path of the page.
    """
    commit_text(folder / "rows.csv", rows_csv(found))
    commit_json(folder / "summary.json", summary_json(found))
    page = render_report(
        "Robustness",
        robustness_sections(found),
        _provenance(found),
        domains=found.domains,
        subtitle=", ".join(found.models),
    )
    commit_text(folder / "report.html", page)
    return folder / "report.html"


def rows_csv(found: Robustness) -> str:
    """One line per model, way, level, case and label."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow([*COLUMNS, "dice"])
    for row in found.rows:
        dice = json_number(row.dice)
        table.writerow([*(guarded(getattr(row, name)) for name in COLUMNS), "" if dice is None else f"{dice:.6f}"])
    return stream.getvalue()


def summary_json(found: Robustness) -> dict[str, Any]:
    """Everything but the rows, as plain values."""
    return {
        "models": list(found.models),
        "digests": dict(found.digests),
        "data_digest": found.data_digest,
        "split": found.split,
        "num_cases": found.num_cases,
        "left_out": dict(found.left_out),
        "label_names": {str(label): name for label, name in found.label_names.items()},
        "config": dump(found.config),
        "curves": [_curve(curve) for curve in found.curves],
        "ranges": [
            {"model": model, "label": label, "ranges": ranges_for_card(ranges)}
            for (model, label), ranges in found.ranges.items()
        ],
        "strangers": [_plain(one) for one in found.strangers],
        "method": [_plain(one) for one in found.method],
    }


def write_validated(found: Robustness, model: Path, destination: Path) -> None:
    """Write a copy of a model whose card says on which scans it holds.

    Args:
        found: Of this one model. Where it is calibrated, the ranges are those of the calibrated reading.
        model: Its package, or the run that holds it.
        destination: The copy; must not exist.

    Raises:
        ConfigError: several models were measured, or several labels.
        DataError: the destination exists.
        ModelError: the original is not whole.
    """
    require_one(len(found.digests))
    (name,) = found.digests
    title = name + CALIBRATED if name + CALIBRATED in found.models else name
    if len(found.labels) != 1:
        raise ConfigError("a card holds the ranges of one label", fix="leave --write-model out")
    (label,) = found.labels
    validated = {
        "ranges": ranges_for_card(found.ranges[title, label]),
        "criteria": dump(found.config.criteria),
        "coverage": found.config.intervals.coverage,
        "reading": title.removeprefix(name).removeprefix(" + ") or "uncalibrated",
        "gate": found.config.reading,
        "method": "scanned again" if found.config.rescan else "degraded",
        "split": found.split,
        "domains": list(found.domains),
        "num_cases": found.num_cases,
        "data_digest": found.data_digest,
        "model_digest": found.digests[name],
    }
    copy_validated(package_of(model), destination, validated)


def require_one(num_models: int) -> None:
    """Only the ranges of one model go into one card.

    Raises:
        ConfigError: there are more.
    """
    if num_models != 1:
        raise ConfigError(f"{num_models} models, but one card to write", where="--write-model", fix="give one model")


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "model": curve.model,
        "by": curve.by,
        "label": curve.label,
        "thickness_mm": list(curve.thickness_mm),
        "noise_hu": curve.noise_hu,
        "as_is": _point(curve.as_is),
        "points": [_point(point) for point in curve.points],
    }


def _point(point: Point) -> dict[str, Any]:
    estimates = {name: estimate_json(estimate) for name, estimate in point.estimates.items()}
    return {**asdict(point), "estimates": estimates}


def _plain(one: Any) -> dict[str, Any]:
    """A dataclass whose numbers and estimates JSON can hold."""
    return {name: _value(getattr(one, name)) for name in one.__dataclass_fields__}


def _value(value: Any) -> Any:
    if isinstance(value, Estimate):
        return estimate_json(value)
    return json_number(value) if isinstance(value, float) else value


def _provenance(found: Robustness) -> dict[str, str]:
    versions = environment()
    return {
        "split": found.split,
        "data": found.data_digest[:16],
        "seed": str(found.config.seed),
        "python": str(versions["python"]),
        "machine": str(versions["platform"]),
        **{f"model {name}": digest[:16] for name, digest in found.digests.items()},
    }
