"""A patient, or the same image bytes, in two splits is a leak: it is refused, never mended in silence.

`finetune` and `pretrain` are one side, for the cases of `finetune` also serve pre-training. `unused` cases and those
without a split are on no side.
"""

import hashlib
from collections.abc import Iterable, Mapping

from apatite.core.errors import DataError
from apatite.core.volume import Volume
from apatite.io.manifest import Case

SIDES = {"pretrain": "training", "finetune": "training", "development": "development", "test": "test"}
"""Which side of the study each split is on."""


def image_digest(image: Volume) -> str:
    """Hash the decoded voxels and the affine with SHA-256; how the file was compressed does not count."""
    digest = hashlib.sha256(str((image.voxels.dtype.str, image.voxels.shape)).encode())
    digest.update(image.grid.ijk_to_ras.tobytes())
    digest.update(image.voxels.tobytes())
    return digest.hexdigest()


def refuse_leaks(cases: Iterable[Case], digests: Mapping[str, str]) -> None:
    """Refuse a data set in which a patient or an image is on two sides.

    Args:
        cases: All cases, with their splits.
        digests: `image_digest` by case_id; cases that could not be read are missing.

    Raises:
        DataError: `LEAK`, naming both cases.
    """
    cases = [case for case in cases if case.split in SIDES]
    _refuse({case.case_id: case.patient_id for case in cases}, cases, "the same patient")
    _refuse({case.case_id: digests[case.case_id] for case in cases if case.case_id in digests}, cases, "the same image")


def _refuse(keys: Mapping[str, str], cases: list[Case], what: str) -> None:
    first: dict[str, Case] = {}
    for case in cases:
        if case.case_id not in keys:
            continue
        other = first.setdefault(keys[case.case_id], case)
        if SIDES[other.split] != SIDES[case.split]:
            raise DataError(
                f"{what} is in {other.split} (as {other.case_id}) and in {case.split}",
                where=case.case_id,
                fix="split again by patient with `apatite index`, or correct patient_id",
                code="LEAK",
            )
