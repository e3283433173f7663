"""A folder of nnU-Net raw: `imagesTr`, `labelsTr`, `imagesTs`, `dataset.json`."""

from pathlib import Path

from apatite.core.errors import DataError
from apatite.io.layouts.entries import (
    Entry,
    find_nifti,
    label_names_of,
    manifest_of,
    nifti_files,
    patient_of,
    read_json,
)
from apatite.io.manifest import Manifest
from apatite.io.nifti import stem


def from_nnunet_raw(path: Path, patient_pattern: str = "") -> Manifest:
    """Index a folder of nnU-Net raw: `imagesTr`, `labelsTr`, `imagesTs`, `dataset.json`.

    Raises:
        DataError: several channels per case, or label regions, which have no counterpart here.
    """
    about = read_json(path / "dataset.json")
    names = label_names_of(about.get("labels", {}), path)
    entries = []
    for part, split in (("Tr", ""), ("Ts", "test")):
        for file in nifti_files(path / f"images{part}"):
            case, underscore, channel = stem(file).rpartition("_")
            if not underscore or channel != "0000":
                raise DataError(
                    f"{file.name} is not channel 0000 of a case", where=str(path), fix="give one channel per case"
                )
            label = find_nifti(path / f"labels{part}", case)
            patient = patient_of(case, patient_pattern)
            entries.append(Entry(name=case, image=file, label=label, patient=patient, split=split))
    return manifest_of(path, entries, names)
