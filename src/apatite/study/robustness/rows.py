"""What one model did on one case at one level, and the files that keep it: one per model and case, committed when done.

A run that was killed goes on where it was, because a file is either whole or not there. Every file carries the key of
what made it; a folder that holds rows of other models, data or settings is refused, never mixed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from apatite.core.commit import commit_json
from apatite.core.config import load
from apatite.core.errors import ConfigError, DataError
from apatite.metrics.overlap import Overlap

AS_IS = "as scanned"
"""What stands for a way of degrading where a scan was not degraded."""


@dataclass(frozen=True, kw_only=True)
class LevelRow:
    """One model, one case, one label, at one level of one way of getting worse.

    Attributes:
        model: Title in the tables; calibrated and uncalibrated readings have titles of their own.
        by: Name of the way, or `AS_IS`.
        level: How much; 0 for a scan as it is.
        case_id: The case.
        patient_id: Its patient; intervals resample patients.
        label: Label value.
        true_positive, false_positive, false_negative: Voxels, against the reference of that level.
        predicted_mm3: Volume of the prediction.
        reference_mm3: Volume of the reference of that level.
        original_mm3: Volume of the reference on the scan as it is.
        analytic_mm3: True volume, of phantoms only.
        thickness_mm: Of the thickest slice of the scan as it is.
        noise_hu: Noise in its brain, before anything was added; `None` where none is in view.
        vendor: Of the scanner.
        is_stranger: Whether the case fits what this model's training held out.
    """

    model: str
    by: str
    level: float
    case_id: str
    patient_id: str
    label: int
    true_positive: int
    false_positive: int
    false_negative: int
    predicted_mm3: float
    reference_mm3: float
    original_mm3: float
    analytic_mm3: float | None = None
    thickness_mm: float
    noise_hu: float | None = None
    vendor: str = ""
    is_stranger: bool = False

    @property
    def dice(self) -> float:
        """Against the reference of the level; nan where both are empty."""
        return Overlap(
            true_positive=self.true_positive, false_positive=self.false_positive, false_negative=self.false_negative
        ).dice

    @property
    def is_positive(self) -> bool:
        """Whether the scan as it is holds the label."""
        return self.original_mm3 > 0


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One phantom case at one level: how far degrading is from scanning again, on the same slices.

    Attributes:
        by: Name of the way.
        level: How much.
        case_id: The case.
        patient_id: Its patient.
        reference_dice: The reference made from the annotation against the perfect reader of the same degraded scan.
        scan_dice: The perfect reader of the degraded scan against that of the patient scanned again.
        degraded_mm3: Volume that the perfect reader marks in the degraded scan.
        again_mm3: The same in the patient scanned again.
        difference_hu: Degraded minus scanned again, mean over calcium; `None` without calcium.
    """

    by: str
    level: float
    case_id: str
    patient_id: str
    reference_dice: float | None
    scan_dice: float | None
    degraded_mm3: float
    again_mm3: float
    difference_hu: float | None


R = TypeVar("R", LevelRow, MethodRow)

COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(LevelRow))


def read_rows(path: Path, kind: type[R], key: Mapping[str, Any]) -> list[R] | None:
    """The rows of a file, or `None` where there is none yet.

    Raises:
        DataError: the file was made by another run, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["key"] != json.loads(json.dumps(key)):
            raise DataError(
                "holds rows of other models, data or settings", where=str(path), fix="name a new folder with -o"
            )
        return [load(kind, row, path.name) for row in values["rows"]]
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError("cannot be read", where=str(path), fix="remove it, then run the same command again") from error


def write_rows(path: Path, rows: Sequence[LevelRow] | Sequence[MethodRow], key: Mapping[str, Any]) -> None:
    """Write rows with the key of what made them.

    Raises:
        StorageError: as `core.commit.committed`.
    """
    commit_json(path, {"key": dict(key), "rows": [asdict(row) for row in rows]})
