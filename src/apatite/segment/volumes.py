"""Predict a list of scans to files: probability and label on each scan's own grid, and a table of volumes."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apatite.calcium.measure import volume_mm3
from apatite.calibrate.calibration import Calibration, calibration_of, thresholds_of
from apatite.calibrate.readings import CALCIUM, calcium_label, gate_of, readings_of
from apatite.core.commit import commit_text
from apatite.core.errors import ApatiteError, DataError, StorageError
from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.core.watch import Watch, unwatched
from apatite.io.images import read_image
from apatite.io.layouts import case_id_of
from apatite.io.manifest import Case, Manifest, read_manifest
from apatite.io.nifti import stem, viewer_grid, write_label, write_volume
from apatite.segment.predict import NativePrediction, Predictor, decide

COLUMNS: tuple[str, ...] = (
    "case_id",
    "label",
    "label_name",
    "volume_mm3",
    "burden_group",
    "threshold",
    "reading",
    "calibrated",
    "model_digest",
    "flags",
)
NO_DOMAIN_OVERLAP = "DOMAIN"
"""Flag of a case from a domain on which the model was never calibrated."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was written.

    Attributes:
        table: `volumes.csv`.
        rows: Its rows.
        failures: Cases that could not be predicted, as plain values.
    """

    table: Path
    rows: list[dict[str, Any]]
    failures: list[dict[str, Any]]


def scans_of(path: Path, centre_ras_mm: tuple[float, float, float] | None = None) -> Manifest:
    """The scans that a path names: a manifest CSV, a NIfTI file, or a folder of NIfTI files.

    Raises:
        DataError: nothing is there.
    """
    if path.suffix == ".csv":
        return read_manifest(path)
    files = sorted(p for p in path.iterdir() if p.name.endswith((".nii", ".nii.gz"))) if path.is_dir() else [path]
    files = [file for file in files if file.is_file()]
    if not files:
        raise DataError(
            "holds no NIfTI file",
            where=str(path),
            fix="give a .nii.gz file, a folder of them, or a manifest CSV",
            code="NO_INPUT",
        )
    root = files[0].parent
    cases = tuple(
        Case(case_id=case_id, patient_id=case_id, image=file.name, region_centre_ras_mm=centre_ras_mm)
        for file, case_id in ((file, case_id_of(stem(file))) for file in files)
    )
    return Manifest(root=root, cases=cases, label_names={})


def predict_all(
    predictor: Predictor, manifest: Manifest, out: Path, reading: str = "gated", watch: Watch = unwatched
) -> Predictions:
    """Predict every case of a manifest; a bad one is named and the rest goes on.

    Args:
        predictor: The model.
        manifest: The scans.
        out: Folder for `<case>_label.nii.gz`, `<case>_prob.nii.gz` (uint8, 255 is certain; the most probable label)
            and `volumes.csv`.
        reading: `gated` or `ungated`; a model without calcium has only `ungated`.
        watch: Shows progress.

    Raises:
        DataError: not one case could be predicted.
        StorageError: the folder cannot be written.
    """
    readings = readings_of(predictor.card.label_names)
    chosen = reading if reading in readings else "ungated"
    calibration = calibration_of(
        predictor.card.calibration, predictor.card.burden, predictor.card.domains["calibration"]
    )
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for case in watch(manifest.usable, "predicting", len(manifest.usable)):
        try:
            scan = read_image(manifest.image_path(case), case.case_id)
            prediction = predictor.predict(scan, case.region_centre_ras_mm)
            rows += _write_case(predictor, calibration, chosen, case, scan, prediction, out)
        except StorageError:
            raise
        except ApatiteError as error:
            failures.append({**error.to_dict(), "where": error.where or case.case_id})
    if not rows:
        first = failures[0]
        raise DataError(
            f"no scan could be predicted; the first: {first['what']}",
            where=first["where"],
            fix=first["fix"],
            code=first["code"],
        )
    table = out / "volumes.csv"
    commit_text(table, _csv(rows))
    return Predictions(table=table, rows=rows, failures=failures)


def _write_case(  # noqa: PLR0913 - all that is known of one case
    predictor: Predictor,
    calibration: Calibration | None,
    reading: str,
    case: Case,
    scan: Scan,
    prediction: NativePrediction,
    out: Path,
) -> list[dict[str, Any]]:
    """Write one case's images and return its rows."""
    thresholds = thresholds_of(calibration, prediction.label_values, reading)
    label = decide(prediction.probability, prediction.label_values, thresholds)
    calcium = calcium_label(predictor.card.label_names)
    gate = None if calcium is None else gate_of(calcium, reading, predictor.card.label_names)
    if gate is not None:
        label[(label == calcium) & (scan.voxels_hu < gate)] = 0
    most = np.rint(prediction.probability.max(axis=0) * 255).astype(np.uint8)
    write_label(out / f"{case.case_id}_label.nii.gz", label, scan.stack)
    write_volume(out / f"{case.case_id}_prob.nii.gz", Volume(voxels=most, grid=viewer_grid(scan.stack)))
    return [
        _row(predictor, calibration, reading, case, value, threshold, volume_mm3(label == value, scan.stack))
        for value, threshold in zip(prediction.label_values, thresholds, strict=True)
    ]


def _row(  # noqa: PLR0913 - one line of the table
    predictor: Predictor,
    calibration: Calibration | None,
    reading: str,
    case: Case,
    value: int,
    threshold: float,
    volume: float,
) -> dict[str, Any]:
    name = predictor.card.label_names[value]
    # A spreadsheet would run such a name as a formula.
    shown = f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
    group: int | str = ""
    if calibration is not None and reading in calibration.burden and name == CALCIUM:
        group = calibration.burden[reading].assign(volume)
    domains = predictor.card.domains["calibration"] or predictor.card.domains["training"]
    return {
        "case_id": case.case_id,
        "label": value,
        "label_name": shown,
        # Three figures: the measurement is no finer, whatever the arithmetic says.
        "volume_mm3": float(f"{volume:.3g}"),
        "burden_group": group,
        "threshold": round(threshold, 4),
        "reading": reading,
        "calibrated": calibration is not None,
        "model_digest": predictor.digest[:16],
        "flags": "" if case.domain in domains else NO_DOMAIN_OVERLAP,
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue()
