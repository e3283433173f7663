"""Which layouts there are, and which one a source has.

A folder of DICOM files is told from them here, and read by `io.dicom.intake`.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from apatite.core.errors import ConfigError, DataError
from apatite.core.registry import choose
from apatite.io.dicom.tree import holds_dicom
from apatite.io.layouts.abdomen import from_multi_atlas
from apatite.io.layouts.acdc import from_acdc
from apatite.io.layouts.bids import from_bids
from apatite.io.layouts.decathlon import from_decathlon
from apatite.io.layouts.entries import read_json
from apatite.io.layouts.folder import from_folder
from apatite.io.layouts.msd import BRATS, LUNG, from_msd
from apatite.io.layouts.nnunet_raw import from_nnunet_raw
from apatite.io.layouts.published import PUBLISHED
from apatite.io.manifest import Manifest, read_manifest

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


def from_csv(path: Path, patient_pattern: str = "") -> Manifest:
    """Read a table with this package's columns; `train`, `validation` and the like are understood as splits."""
    del patient_pattern
    return read_manifest(path, SPLIT_WORDS)


LAYOUTS: Final[dict[str, Callable[[Path, str], Manifest]]] = {
    "folder": from_folder,
    "nnunet": from_nnunet_raw,
    "decathlon": from_decathlon,
    "bids": from_bids,
    "csv": from_csv,
    "synapse": partial(from_multi_atlas, PUBLISHED["synapse"]),
    "btcv": partial(from_multi_atlas, PUBLISHED["btcv"]),
    "acdc": partial(from_acdc, PUBLISHED["acdc"]),
    "msd_lung": partial(from_msd, LUNG, PUBLISHED["msd_lung"]),
    "msd_brats": partial(from_msd, BRATS, PUBLISHED["msd_brats"]),
}
"""Every door but that of DICOM, which is `io.dicom.intake`."""
DICOM = "dicom"


def read_layout(path: Path, layout: str = "auto", patient_pattern: str = "") -> Manifest:
    """Index a source.

    Args:
        path: A folder, a CSV or a JSON file.
        layout: One of `LAYOUTS`, or `auto`, which never means one of `PUBLISHED`.
        patient_pattern: As `from_folder`.

    Raises:
        ConfigError: an unknown layout, no regular expression, or a pattern where the patients are known.
        DataError: the source is missing, empty or contradicts itself; or it is not the published data set that it is
            said to be.
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
    if name in PUBLISHED and patient_pattern:
        raise ConfigError(f"the patients of {name} are known", fix="leave out --patient-pattern")
    return choose(LAYOUTS, name, "layout")(path, patient_pattern)


def detect_layout(path: Path) -> str:
    """Which of `LAYOUTS` a source has, or `DICOM`: a folder that holds DICOM files and no NIfTI."""
    if path.is_file():
        return "decathlon" if path.suffix == ".json" else "csv"
    if (path / "dataset.json").exists():
        return "decathlon" if "training" in read_json(path / "dataset.json") else "nnunet"
    if any(path.glob("sub-*/")):
        return "bids"
    return DICOM if holds_dicom(path) else "folder"
