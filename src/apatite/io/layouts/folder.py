"""A folder of images, or `images/` beside `labels/` with equal file names."""

from pathlib import Path

from apatite.core.errors import DataError
from apatite.io.layouts.entries import Entry, manifest_of, names_beside, nifti_files, patient_of
from apatite.io.manifest import Manifest
from apatite.io.nifti import stem


def from_folder(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a folder of images, or `images/` beside `labels/` with equal file names.

    Args:
        path: The folder; images may lie in folders below it.
        patient_pattern: A regular expression searched in each file name; its first group is the patient. Without it
            every image is a patient of its own.
    """
    images = path / "images" if (path / "images").is_dir() else path
    labels = {stem(file): file for file in nifti_files(path / "labels")} if images != path else {}
    entries = [
        Entry(
            name="-".join([*file.parent.relative_to(images).parts, stem(file)]),
            image=file,
            label=labels.pop(stem(file), None),
            patient=patient_of(stem(file), patient_pattern),
        )
        for file in nifti_files(images)
    ]
    if labels:
        orphan = next(iter(labels.values()))
        raise DataError(
            f"the label {orphan.name} has no image of the same name",
            where=str(path),
            fix="add the image or remove the label",
        )
    return manifest_of(path, entries, names_beside(path))
