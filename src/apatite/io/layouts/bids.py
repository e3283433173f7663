"""A BIDS folder of CT, with what its sidecars and its table of participants say."""

import csv
import re
from pathlib import Path
from typing import Any

from apatite.core.errors import DataError
from apatite.io.layouts.entries import Entry, manifest_of, names_beside, nifti_files, read_json
from apatite.io.manifest import Manifest
from apatite.io.nifti import stem

_SIDECAR_COLUMNS = {
    "Manufacturer": "vendor",
    "ManufacturersModelName": "scanner_model",
    "ConvolutionKernel": "kernel",
    "SeriesInstanceUID": "series_uid",
    "InstitutionName": "site",
}


def from_bids(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a BIDS folder: `sub-*/[ses-*/]*/*_ct.nii.gz`, labels in `derivatives` as `*_dseg` or `*_mask`.

    Vendor, model, kernel and thickness are read from the JSON beside an image, age and sex from participants.tsv.
    """
    del patient_pattern
    people = _participants(path / "participants.tsv")
    labels = [f for f in nifti_files(path / "derivatives") if stem(f).endswith(("_dseg", "_mask"))]
    entries = []
    for file in nifti_files(path):
        if not stem(file).endswith("_ct") or "derivatives" in file.relative_to(path).parts:
            continue
        name, patient = stem(file).removesuffix("_ct"), file.relative_to(path).parts[0]
        found = [label for label in labels if stem(label).startswith(f"{name}_")]
        if len(found) > 1:
            raise DataError(f"{name} has {len(found)} label maps", where=str(path), fix="leave one in derivatives")
        columns = tuple((_sidecar_columns(file) | people.get(patient, {})).items())
        entries.append(
            Entry(name=name, image=file, label=found[0] if found else None, patient=patient, columns=columns)
        )
    return manifest_of(path, entries, names_beside(path))


def _sidecar_columns(image: Path) -> dict[str, Any]:
    file = image.with_name(f"{stem(image)}.json")
    if not file.exists():
        return {}
    about = read_json(file)
    columns: dict[str, Any] = {
        ours: str(about[theirs]) for theirs, ours in _SIDECAR_COLUMNS.items() if about.get(theirs)
    }
    if isinstance(about.get("SliceThickness"), int | float):
        columns["slice_thickness_mm"] = float(about["SliceThickness"])
    return columns


def _participants(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    people: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"):
        known: dict[str, Any] = {"sex": row["sex"]} if row.get("sex") not in (None, "", "n/a") else {}
        if re.fullmatch(r"[0-9.]+", row.get("age") or ""):
            known["age"] = float(row["age"])
        people[row.get("participant_id") or ""] = known
    return people
