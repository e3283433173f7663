"""The cardiac MR of ACDC as its owners distribute it: `patient001/patient001_frame01.nii.gz`, `_gt` and `Info.cfg`.

Each patient has two labelled volumes, the ends of diastole and systole; `Info.cfg` says which frames they are. They are
one patient. The cine series `patient001_4d.nii.gz` beside them has no labels and is passed over.

Source: Bernard et al. 2018, "Deep Learning Techniques for Automatic MRI Cardiac Multi-structures Segmentation and
Diagnosis", the folder `training`.
"""

import re
from pathlib import Path
from typing import Final

from apatite.core.errors import DataError
from apatite.io.layouts.entries import Entry, find_nifti, manifest_of, nifti_files
from apatite.io.layouts.published import PublishedSplit, named
from apatite.io.manifest import Manifest
from apatite.io.nifti import stem

CHAMBERS: Final = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
INFO = "Info.cfg"
_PHASES = ("ED", "ES")


def from_acdc(split: PublishedSplit, path: Path, patient_pattern: str = "") -> Manifest:
    """Index the folder that holds one folder per patient.

    Args:
        split: Which patients are held out.
        path: The folder `training`.
        patient_pattern: Not used; the folders are the patients.

    Raises:
        DataError: a patient missing or unknown (`SPLIT_DIFFERS`), a frame, its label or `Info.cfg` missing
            (`MISSING_FILE`), or a file that `Info.cfg` does not name.
    """
    del patient_pattern
    patients = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir()} if path.is_dir() else {}
    if "training" in patients:
        raise DataError("holds the folder training", where=str(path), fix="give that folder", code="SPLIT_DIFFERS")
    split.require(patients, str(path))
    splits = split.splits()
    entries = [
        Entry(name=stem(image), image=image, label=label, patient=name, split=splits[name])
        for name, folder in patients.items()
        for image, label in _frames(folder)
    ]
    return manifest_of(path, entries, CHAMBERS)


def _frames(folder: Path) -> list[tuple[Path, Path]]:
    """The two volumes of a patient with their label maps, in the order of time."""
    numbers = _labelled_frames(folder / INFO)
    names = [f"{folder.name}_frame{number:02d}" for number in numbers]
    known = {*names, *(f"{name}_gt" for name in names), f"{folder.name}_4d"}
    strange = {stem(file) for file in nifti_files(folder)} - known
    if strange:
        raise DataError(
            f"holds {named(strange)}, and {INFO} names the frames {numbers[0]} and {numbers[1]}",
            where=str(folder),
            fix="take the patient's folder as it was distributed",
            code="SPLIT_DIFFERS",
        )
    return [(_file(folder, name), _file(folder, f"{name}_gt")) for name in names]


def _labelled_frames(path: Path) -> list[int]:
    """The two frames that have labels, by what `Info.cfg` says."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"has no {INFO}, which says which frames are labelled",
            where=str(path.parent),
            fix="take the patient's folder as it was distributed",
            code="MISSING_FILE",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot be read", where=str(path), fix="copy it again", code="IO_ERROR") from error
    found = {key: int(number) for key, number in re.findall(r"^(\w+)[ \t]*:[ \t]*(\d+)[ \t]*\r?$", text, re.MULTILINE)}
    frames = [found.get(phase, 0) for phase in _PHASES]
    if min(frames) < 1 or frames[0] == frames[1]:
        raise DataError(
            f"does not name two frames, ED and ES (found {frames[0] or 'none'} and {frames[1] or 'none'})",
            where=str(path),
            fix="copy it again from its source",
        )
    return sorted(frames)


def _file(folder: Path, name: str) -> Path:
    found = find_nifti(folder, name)
    if found is None:
        raise DataError(
            f"{name}.nii.gz is missing",
            where=str(folder),
            fix="take the patient's folder as it was distributed",
            code="MISSING_FILE",
        )
    return found
