"""Many doors, one manifest: folders of images, nnU-Net raw, decathlon data lists, BIDS and tables made elsewhere.

A folder of DICOM files is told from them here, and read by `io.dicom.intake`.

Splits that the source names are kept in the manifest (`apatite index --keep-splits` respects them). Two files that
would end under one case_id are refused; neither is renamed in silence.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.core.errors import ConfigError, DataError
from apatite.core.registry import choose
from apatite.io.case import CASE_ID, MAX_LABEL, Case
from apatite.io.dicom.tree import holds_dicom
from apatite.io.manifest import Manifest, read_manifest, relative_path
from apatite.io.nifti import stem

SPLIT_WORDS = {
    "train": "pretrain",
    "training": "pretrain",
    "val": "development",
    "valid": "development",
    "validation": "development",
    "dev": "development",
    "testing": "test",
}
"""What other tables call our splits."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image as a layout names it, before it becomes a case."""

    name: str
    image: Path
    label: Path | None = None
    patient: str = ""
    split: str = ""
    columns: tuple[tuple[str, Any], ...] = ()


def from_folder(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a folder of images, or `images/` beside `labels/` with equal file names.

    Args:
        path: The folder; images may lie in folders below it.
        patient_pattern: A regular expression searched in each file name; its first group is the patient. Without it
            every image is a patient of its own.
    """
    images = path / "images" if (path / "images").is_dir() else path
    labels = {stem(file): file for file in _nifti_files(path / "labels")} if images != path else {}
    entries = [
        Entry(
            name="-".join([*file.parent.relative_to(images).parts, stem(file)]),
            image=file,
            label=labels.pop(stem(file), None),
            patient=_patient(stem(file), patient_pattern),
        )
        for file in _nifti_files(images)
    ]
    if labels:
        orphan = next(iter(labels.values()))
        raise DataError(
            f"the label {orphan.name} has no image of the same name",
            where=str(path),
            fix="add the image or remove the label",
        )
    return _manifest(path, entries, _names_beside(path))


def from_nnunet_raw(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a folder of nnU-Net raw: `imagesTr`, `labelsTr`, `imagesTs`, `dataset.json`.

    Raises:
        DataError: several channels per case, or label regions, which have no counterpart here.
    """
    about = _read_json(path / "dataset.json")
    names = _label_names(about.get("labels", {}), path)
    entries = []
    for part, split in (("Tr", ""), ("Ts", "test")):
        for file in _nifti_files(path / f"images{part}"):
            case, underscore, channel = stem(file).rpartition("_")
            if not underscore or channel != "0000":
                raise DataError(
                    f"{file.name} is not channel 0000 of a case", where=str(path), fix="give one channel per case"
                )
            label = next(
                (f for f in (path / f"labels{part}" / f"{case}{end}" for end in (".nii.gz", ".nii")) if f.exists()),
                None,
            )
            entries.append(
                Entry(name=case, image=file, label=label, patient=_patient(case, patient_pattern), split=split)
            )
    return _manifest(path, entries, names)


def from_decathlon(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a decathlon data list: JSON with `training`, `validation`, `test`, or a folder with such a dataset.json."""
    file = path / "dataset.json" if path.is_dir() else path
    about = _read_json(file)
    entries = []
    for key, split in (("training", ""), ("validation", "development"), ("test", "test")):
        for item in about.get(key, []):
            item = item if isinstance(item, dict) else {"image": item}
            if not isinstance(item.get("image"), str):
                raise DataError(
                    f"an entry of {key!r} names no single image", where=str(file), fix="give one image per entry"
                )
            image = file.parent / item["image"]
            label = file.parent / item["label"] if item.get("label") else None
            fold = (("fold", int(item["fold"])),) if isinstance(item.get("fold"), int) else ()
            patient = str(item.get("patient_id") or _patient(stem(image), patient_pattern))
            entries.append(
                Entry(name=stem(image), image=image, label=label, patient=patient, split=split, columns=fold)
            )
    return _manifest(file.parent, entries, _label_names(about.get("labels", {}), file))


def from_bids(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a BIDS folder: `sub-*/[ses-*/]*/*_ct.nii.gz`, labels in `derivatives` as `*_dseg` or `*_mask`.

    Vendor, model, kernel and thickness are read from the JSON beside an image, age and sex from participants.tsv.
    """
    del patient_pattern
    people = _participants(path / "participants.tsv")
    labels = [f for f in _nifti_files(path / "derivatives") if stem(f).endswith(("_dseg", "_mask"))]
    entries = []
    for file in _nifti_files(path):
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
    return _manifest(path, entries, _names_beside(path))


def from_csv(path: Path, patient_pattern: str = "") -> Manifest:
    """Read a table with this package's columns; `train`, `validation` and the like are understood as splits."""
    del patient_pattern
    return read_manifest(path, SPLIT_WORDS)


LAYOUTS: dict[str, Callable[[Path, str], Manifest]] = {
    "folder": from_folder,
    "nnunet": from_nnunet_raw,
    "decathlon": from_decathlon,
    "bids": from_bids,
    "csv": from_csv,
}
"""Every door but that of DICOM, which is `io.dicom.intake`."""
DICOM = "dicom"


def read_layout(path: Path, layout: str = "auto", patient_pattern: str = "") -> Manifest:
    """Index a source.

    Args:
        path: A folder, a CSV or a JSON file.
        layout: One of `LAYOUTS`, or `auto`.
        patient_pattern: As `from_folder`.

    Raises:
        DataError: the source is missing, empty or contradicts itself.
    """
    if not path.exists():
        raise DataError("does not exist", where=str(path), fix="check the path", code="MISSING_FILE")
    try:
        re.compile(patient_pattern)
    except re.error as error:
        raise ConfigError(
            f"{patient_pattern!r} is no regular expression ({error})", fix="for example '^(P[0-9]+)_'"
        ) from None
    name = detect_layout(path) if layout == "auto" else layout
    if name == DICOM:
        raise ConfigError(
            "a DICOM tree is indexed by `apatite index`, which also writes what belongs to its manifest",
            where=str(path),
        )
    return choose(LAYOUTS, name, "layout")(path, patient_pattern)


def detect_layout(path: Path) -> str:
    """Which of `LAYOUTS` a source has, or `DICOM`: a folder that holds DICOM files and no NIfTI."""
    if path.is_file():
        return "decathlon" if path.suffix == ".json" else "csv"
    if (path / "dataset.json").exists():
        return "decathlon" if "training" in _read_json(path / "dataset.json") else "nnunet"
    if any(path.glob("sub-*/")):
        return "bids"
    return DICOM if holds_dicom(path) else "folder"


def case_id_of(name: str) -> str:
    """The nearest allowed case_id: lower case, and `-` for every other character."""
    text = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip("._-")[:64]
    if not CASE_ID.fullmatch(text):
        raise DataError(f"no case_id can be made of {name[:80]!r}", fix="rename the file with letters and digits")
    return text


def _manifest(root: Path, entries: Iterable[Entry], label_names: dict[int, str]) -> Manifest:
    cases: dict[str, Case] = {}
    for entry in entries:
        case_id = case_id_of(entry.name)
        if case_id in cases:
            raise DataError(
                f"{cases[case_id].image} and {relative_path(entry.image, root)} would both be {case_id!r}",
                where=str(root),
                fix="rename one of them",
            )
        cases[case_id] = Case(
            case_id=case_id,
            patient_id=entry.patient or case_id,
            image=relative_path(entry.image, root),
            label=relative_path(entry.label, root) if entry.label else "",
            split=entry.split,
            **dict(entry.columns),
        )
    if not cases:
        raise DataError(
            "holds no .nii or .nii.gz image",
            where=str(root),
            fix="check the path, or name the --layout",
            code="MISSING_FILE",
        )
    return Manifest(root=root, cases=tuple(cases.values()), label_names=label_names)


def _nifti_files(folder: Path) -> list[Path]:
    files = (
        file for file in folder.rglob("*") if file.name.endswith((".nii", ".nii.gz")) and not file.name.startswith(".")
    )
    return sorted(file for file in files if file.is_file() or file.is_symlink())


def _patient(name: str, pattern: str) -> str:
    if not pattern:
        return ""
    found = re.search(pattern, name)
    if found is None or not found.groups() or not found[1]:
        raise DataError(
            f"{pattern!r} finds no patient in {name!r}", fix="correct --patient-pattern; its first group is the patient"
        )
    return found[1]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("cannot be read as JSON", where=str(path), fix="check the file") from error
    if not isinstance(content, dict):
        raise DataError("is not a JSON object", where=str(path), fix="check the file")
    return content


def _label_names(labels: Any, path: Path) -> dict[int, str]:
    """Label names of a dataset.json, in either direction: `{"liver": 1}` or `{"1": "liver"}`."""
    names: dict[int, str] = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        number, name = (value, key) if not str(key).isdigit() else (key, value)
        if name == "ignore" or isinstance(number, list):
            raise DataError(
                f"the label {name!r} has no counterpart here",
                where=str(path),
                fix="list annotated_labels per case instead",
                code="BAD_LABEL",
            )
        if not str(number).isdigit() or int(number) > MAX_LABEL:
            raise DataError(
                f"the label {name!r} has no whole number", where=str(path), fix="correct dataset.json", code="BAD_LABEL"
            )
        if int(number) > 0:
            names[int(number)] = str(name)
    return dict(sorted(names.items()))


def _names_beside(path: Path) -> dict[int, str]:
    file = path / "labels.json"
    return _label_names(_read_json(file), file) if file.exists() else {}


_SIDECAR_COLUMNS = {
    "Manufacturer": "vendor",
    "ManufacturersModelName": "scanner_model",
    "ConvolutionKernel": "kernel",
    "SeriesInstanceUID": "series_uid",
    "InstitutionName": "site",
}


def _sidecar_columns(image: Path) -> dict[str, Any]:
    file = image.with_name(f"{stem(image)}.json")
    if not file.exists():
        return {}
    about = _read_json(file)
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
