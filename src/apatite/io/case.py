"""A case is one image series of one patient: what it is, where its files lie, and whether it may be used."""

import re
from dataclasses import dataclass, fields

from apatite.core.errors import DataError
from apatite.core.reasons import REASONS
from apatite.core.registry import nearest

CASE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a case may be called; it becomes part of file names."""
SPLITS = ("", "pretrain", "finetune", "development", "test", "unused")
"""Known splits; empty means not yet split. Cases of `finetune` also serve pre-training."""
DOMAINS = ("phantom", "real")
KERNEL_CLASSES = ("", "soft", "bone")
VERDICTS = ("", "set aside", "refused")
"""Empty for a case that may be used. The others are listed, so that nothing vanishes, and never used."""
MAX_LABEL = 254
"""Largest label value: 255 means not annotated."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image series of one patient.

    Attributes:
        case_id: Unique, lower case, usable as a file name.
        patient_id: Splits never divide a patient.
        image: Path of the NIfTI, or of the listing of a DICOM series, relative to the manifest's folder.
        label: Path of its label map; empty where there is none.
        split: One of `SPLITS`.
        annotated_labels: Label values that were looked for in this case; empty with a label file means all of them.
            A value that is not listed is unknown here, not absent.
        domain: `phantom` or `real`.
        vendor: Maker of the scanner.
        scanner_model: Its model.
        kernel: Reconstruction kernel, as the scanner names it.
        kernel_class: `soft`, `bone`, or empty where unknown.
        slice_thickness_mm: Nominal thickness; `None` where unknown.
        age: Years; `None` where unknown.
        sex: As given.
        site: Where it was acquired.
        series_uid: DICOM series, where there is one.
        region_centre_ras_mm: Centre of the region to cut; `None` means the middle of the scan.
        truth: Phantom only: path of the case's truth.
        fold: Cross-validation fold, from 0; `None` without folds.
        study: Opaque name of the study, where there is one.
        verdict: One of `VERDICTS`.
        codes: Of `core.reasons`: the reason of the verdict first, then what is unusual.
        kvp: Tube voltage; `None` where unknown.
    """

    case_id: str
    patient_id: str
    image: str
    label: str = ""
    split: str = ""
    annotated_labels: tuple[int, ...] = ()
    domain: str = "real"
    vendor: str = ""
    scanner_model: str = ""
    kernel: str = ""
    kernel_class: str = ""
    slice_thickness_mm: float | None = None
    age: float | None = None
    sex: str = ""
    site: str = ""
    series_uid: str = ""
    region_centre_ras_mm: tuple[float, float, float] | None = None
    truth: str = ""
    fold: int | None = None
    study: str = ""
    verdict: str = ""
    codes: tuple[str, ...] = ()
    kvp: float | None = None

    def __post_init__(self) -> None:
        if not CASE_ID.fullmatch(self.case_id):
            raise DataError(
                f"{self.case_id[:80]!r} cannot be a case_id",
                fix="use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit",
            )
        if not self.patient_id or not self.image:
            raise DataError("patient_id and image must not be empty", where=self.case_id, fix="fill in both columns")
        self._require("split", SPLITS)
        self._require("domain", DOMAINS)
        self._require("kernel_class", KERNEL_CLASSES)
        self._require("verdict", VERDICTS)
        self._check_verdict()
        if any(not 1 <= value <= MAX_LABEL for value in self.annotated_labels):
            raise DataError(
                f"annotated_labels {self.annotated_labels} leave 1 to {MAX_LABEL}", where=self.case_id, code="BAD_LABEL"
            )

    def _check_verdict(self) -> None:
        unknown = next((code for code in self.codes if code not in REASONS), None)
        if unknown is not None:
            raise DataError(f"unknown code {unknown[:80]!r}", where=self.case_id, fix=nearest(unknown, list(REASONS)))
        if self.verdict and not self.codes:
            raise DataError(
                f"{self.verdict!r} without a code", where=self.case_id, fix="give the reason in the column codes"
            )
        if self.verdict and self.split not in ("", "unused"):
            raise DataError(
                f"{self.verdict!r} and in the split {self.split!r}",
                where=self.case_id,
                fix="make the split 'unused', or clear the verdict to use the case",
            )

    def _require(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise DataError(
                f"unknown {name} {value!r}", where=self.case_id, fix=nearest(value, [a for a in allowed if a])
            )


COLUMNS = tuple(field.name for field in fields(Case))
"""The columns, in the order in which they are written."""
