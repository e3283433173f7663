"""The multi-atlas abdomen CTs (Synapse, BTCV) as they are distributed: `img/img0001.nii.gz`, `label/label0001.nii.gz`.

Source: the challenge "Multi-Atlas Labeling Beyond the Cranial Vault" (2015), folder `RawData/Training`: 30 CTs with
thirteen organs. "Synapse" and "BTCV" are two divisions of the same scans, so a model of one must not be judged on what
the other holds out.
"""

from pathlib import Path
from typing import Final

from apatite.core.errors import DataError
from apatite.io.layouts.entries import Entry, manifest_of, nifti_files
from apatite.io.layouts.published import PublishedSplit, named, only_one_each
from apatite.io.manifest import Manifest

ORGANS: Final = {
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gallbladder",
    5: "oesophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior vena cava",
    10: "portal and splenic vein",
    11: "pancreas",
    12: "right adrenal gland",
    13: "left adrenal gland",
}
"""Papers on Synapse report eight of them: 1, 2, 3, 4, 6, 7, 8 and 11."""


def from_multi_atlas(split: PublishedSplit, path: Path, patient_pattern: str = "") -> Manifest:
    """Index the folder that holds `img` and `label`.

    Args:
        split: Which cases are held out.
        path: `RawData/Training`.
        patient_pattern: Not used; every scan is a patient.

    Raises:
        DataError: another folder (`MISSING_FILE`), a case missing or unknown (`SPLIT_DIFFERS`), or an image without
            label or a label without image (`MISSING_FILE`).
    """
    del patient_pattern
    if not (path / "img").is_dir() or not (path / "label").is_dir():
        raise DataError(
            "has no folders img and label", where=str(path), fix="give the folder RawData/Training", code="MISSING_FILE"
        )
    images = only_one_each(nifti_files(path / "img"), path)
    found = only_one_each(nifti_files(path / "label"), path)
    labels = {name.replace("label", "img", 1): file for name, file in found.items()}
    split.require(images, str(path / "img"))
    if labels.keys() != images.keys():
        raise DataError(
            f"the images and labels of {named(labels.keys() ^ images.keys())} do not belong together",
            where=str(path),
            fix="each img0001.nii.gz needs a label0001.nii.gz, and the other way round",
            code="MISSING_FILE",
        )
    splits = split.splits()
    entries = [Entry(name=name, image=file, label=labels[name], split=splits[name]) for name, file in images.items()]
    return manifest_of(path, entries, ORGANS)
