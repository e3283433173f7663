"""From the images that a layout names to a manifest, and what every layout reads on the way there.

Splits that the source names are kept in the manifest (`apatite index --keep-splits` respects them). Two files that
would end under one case_id are refused; neither is renamed in silence.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.core.errors import DataError
from apatite.io.case import CASE_ID, MAX_LABEL, Case
from apatite.io.manifest import Manifest, relative_path

ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image as a layout names it, before it becomes a case."""

    name: str
    image: Path
    label: Path | None = None
    patient: str = ""
    split: str = ""
    columns: tuple[tuple[str, Any], ...] = ()


def manifest_of(root: Path, entries: Iterable[Entry], label_names: dict[int, str]) -> Manifest:
    """The entries as a manifest in `root`.

    Raises:
        DataError: two entries would have one case_id, or there is none.
    """
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


def case_id_of(name: str) -> str:
    """The nearest allowed case_id: lower case, and `-` for every other character."""
    text = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip("._-")[:64]
    if not CASE_ID.fullmatch(text):
        raise DataError(f"no case_id can be made of {name[:80]!r}", fix="rename the file with letters and digits")
    return text


def nifti_files(folder: Path) -> list[Path]:
    """All NIfTI files below a folder, sorted; names that begin with a dot are not files of the data."""
    files = (file for file in folder.rglob("*") if file.name.endswith(ENDINGS) and not file.name.startswith("."))
    return sorted(file for file in files if file.is_file() or file.is_symlink())


def find_nifti(folder: Path, name: str) -> Path | None:
    """The image of that name in a folder, compressed or not; `None` without one.

    Raises:
        DataError: it is there in both ways (`SPLIT_DIFFERS`).
    """
    found = [file for file in (folder / f"{name}{end}" for end in ENDINGS) if file.exists()]
    if len(found) > 1:
        raise DataError(
            f"holds {found[0].name} and {found[1].name}, which are one case",
            where=str(folder),
            fix="keep the one that was distributed",
            code="SPLIT_DIFFERS",
        )
    return found[0] if found else None


def patient_of(name: str, pattern: str) -> str:
    """The first group of a pattern in a name; empty without a pattern.

    Raises:
        DataError: it finds none.
    """
    if not pattern:
        return ""
    found = re.search(pattern, name)
    if found is None or not found.groups() or not found[1]:
        raise DataError(
            f"{pattern!r} finds no patient in {name!r}", fix="correct --patient-pattern; its first group is the patient"
        )
    return found[1]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: the file is missing, no JSON, or something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("cannot be read as JSON", where=str(path), fix="check the file") from error
    if not isinstance(content, dict):
        raise DataError("is not a JSON object", where=str(path), fix="check the file")
    return content


def label_names_of(labels: Any, path: Path) -> dict[int, str]:
    """Label names of a dataset.json, in either direction: `{"liver": 1}` or `{"1": "liver"}`.

    Raises:
        DataError: a label that has no counterpart here, or no whole number (`BAD_LABEL`).
    """
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


def names_beside(path: Path) -> dict[int, str]:
    """Label names of a `labels.json` in a folder; none without one."""
    file = path / "labels.json"
    return label_names_of(read_json(file), file) if file.exists() else {}
