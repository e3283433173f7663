"""Predict a list of scans to files: probability and label on each scan's own grid, and a table of volumes."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apatite.calcium.measure import volume_mm3
from apatite.calibrate.bounds import NOTHING, Bounds, bounds_of, three_figures
from apatite.calibrate.calibration import Calibration, calibration_of, thresholds_of
from apatite.calibrate.readings import calcium_label, gate_of, readings_of
from apatite.calibrate.thickness import thickness_of
from apatite.core.commit import commit_text
from apatite.core.errors import ApatiteError, DataError, StorageError
from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.core.watch import Watch, unwatched
from apatite.io.images import read_image
from apatite.io.layouts import case_id_of
from apatite.io.manifest import Case, Manifest, read_manifest
from apatite.io.model_card import ModelCard
from apatite.io.nifti import stem, viewer_grid, write_label, write_volume
from apatite.segment.predict import NativePrediction, Predictor, decide
from apatite.segment.validity import OUT_OF_VALIDATED_RANGE, outside_validated

COLUMNS: tuple[str, ...] = (
    "case_id",
    "label",
    "label_name",
    "volume_mm3",
    "volume_low_mm3",
    "volume_high_mm3",
    "interval_coverage",
    "burden_group",
    "burden_groups",
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
    model = _model_of(predictor, reading)
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for case in watch(manifest.usable, "predicting", len(manifest.usable)):
        try:
            scan = read_image(manifest.image_path(case), case.case_id)
            prediction = predictor.predict(scan, case.region_centre_ras_mm)
            rows += _write_case(model, case, scan, prediction, out)
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


@dataclass(frozen=True, kw_only=True)
class _Model:
    """How a model's probabilities become volumes."""

    card: ModelCard
    digest: str
    calibration: Calibration | None
    reading: str

    def knows(self, domain: str) -> bool:
        """Whether scans of a domain took part in its calibration; in its training, where it has none."""
        return domain in (self.card.domains["calibration"] or self.card.domains["training"])


def _model_of(predictor: Predictor, reading: str) -> _Model:
    card = predictor.card
    return _Model(
        card=card,
        digest=predictor.digest,
        calibration=calibration_of(card.calibration, card.burden, card.domains["calibration"]),
        reading=reading if reading in readings_of(card.label_names) else "ungated",
    )


def _write_case(model: _Model, case: Case, scan: Scan, prediction: NativePrediction, out: Path) -> list[dict[str, Any]]:
    """Write one case's images and return its rows."""
    thresholds = thresholds_of(model.calibration, prediction.label_values, model.reading)
    label = decide(prediction.probability, prediction.label_values, thresholds)
    calcium = calcium_label(model.card.label_names)
    gate = None if calcium is None else gate_of(calcium, model.reading, model.card.label_names)
    if gate is not None:
        label[(label == calcium) & (scan.voxels_hu < gate)] = 0
    volumes = {value: volume_mm3(label == value, scan.stack) for value in prediction.label_values}
    bounds = {
        value: _bounds(model, case, scan, prediction, volume) if value == calcium else NOTHING
        for value, volume in volumes.items()
    }
    most = np.rint(prediction.probability.max(axis=0) * 255).astype(np.uint8)
    note = "" if calcium not in volumes else bounds[calcium].words(volumes[calcium])
    write_label(out / f"{case.case_id}_label.nii.gz", label, scan.stack, note)
    write_volume(out / f"{case.case_id}_prob.nii.gz", Volume(voxels=most, grid=viewer_grid(scan.stack)))
    flags = _case_flags(model, case, scan)
    return [
        _row(model, case, value, threshold, volumes[value])
        | bounds[value].cells()
        | {"flags": " ".join((*flags, *bounds[value].flags))}
        for value, threshold in zip(prediction.label_values, thresholds, strict=True)
    ]


def _case_flags(model: _Model, case: Case, scan: Scan) -> tuple[str, ...]:
    """What is doubtful about a case, whatever was found in it."""
    found = {
        NO_DOMAIN_OVERLAP: not model.knows(case.domain),
        OUT_OF_VALIDATED_RANGE: outside_validated(model.card, thickness_mm=float(scan.stack.thickness_mm.max())),
    }
    return tuple(code for code, is_so in found.items() if is_so)


def _bounds(model: _Model, case: Case, scan: Scan, prediction: NativePrediction, volume: float) -> Bounds:
    """Limits of the volume of calcium."""
    if model.calibration is None:
        return NOTHING
    # A model of regions that looked everywhere saw far more than any case of its calibration.
    is_elsewhere = model.card.input.kind == "region" and bool(prediction.is_counted.all())
    return bounds_of(
        volume,
        thickness_of(case, scan.stack),
        model.calibration.intervals.get(model.reading),
        model.calibration.burden.get(model.reading),
        is_like_calibration=model.knows(case.domain) and not is_elsewhere,
    )


def _row(model: _Model, case: Case, value: int, threshold: float, volume: float) -> dict[str, Any]:
    """One line of the table, without limits and flags."""
    name = model.card.label_names[value]
    # A spreadsheet would run such a name as a formula.
    shown = f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
    cuts = None if model.calibration is None else model.calibration.burden.get(model.reading)
    is_calcium = value == calcium_label(model.card.label_names)
    return {
        "case_id": case.case_id,
        "label": value,
        "label_name": shown,
        "volume_mm3": three_figures(volume),
        "burden_group": "" if cuts is None or not is_calcium else cuts.assign(volume),
        "threshold": round(threshold, 4),
        "reading": model.reading,
        "calibrated": model.calibration is not None and model.calibration.chose(value, model.reading),
        "model_digest": model.digest[:16],
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue()
