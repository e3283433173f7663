"""Predictions beside their references, case after case, on the original slices."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from apatite.core.errors import ApatiteError, DataError
from apatite.core.scan import Scan
from apatite.core.watch import Watch, unwatched
from apatite.io.images import read_image
from apatite.io.manifest import Case, Manifest
from apatite.io.nifti import read_label
from apatite.segment.predict import NativePrediction


@runtime_checkable
class CasePredictor(Protocol):
    """Whatever gives a probability on the original slices of a case: a model, or predictions that lie on disk."""

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label value of each plane."""
        ...

    def predict_case(self, case: Case, scan: Scan) -> NativePrediction:
        """Predict one case.

        Args:
            case: Its row in the manifest; names what lies on disk.
            scan: Its original slices.

        Raises:
            DataError: this case cannot be predicted.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedCase:
    """One case: what was scanned, what a model says, what the reference says.

    Attributes:
        case: Its row in the manifest.
        scan: Original slices.
        prediction: On those slices.
        reference: Label value per original pixel.
        annotated: Label values that were looked for.
        analytic_mm3: True volume inside the region, of phantoms only.
    """

    case: Case
    scan: Scan
    prediction: NativePrediction
    reference: np.ndarray
    annotated: tuple[int, ...]
    analytic_mm3: float | None

    def is_reference(self, label: int) -> Bool[np.ndarray, "slices rows columns"]:
        """True where the reference marks a label."""
        return self.reference == label


def predict_cases(
    predictor: CasePredictor, manifest: Manifest, cases: Sequence[Case], stage: str, watch: Watch = unwatched
) -> Iterator[PredictedCase]:
    """Predict labelled cases one after another; only one is in memory at a time.

    Raises:
        DataError: a case cannot be read; it is named.
    """
    for case in watch(cases, stage, len(cases)):
        label_path = manifest.label_path(case)
        if label_path is None:
            raise DataError("has no reference", where=case.case_id, fix="fill in its label column", code="MISSING_FILE")
        scan = read_image(manifest.image_path(case), case.case_id)
        reference = read_label(label_path, scan.stack, case.case_id)
        try:
            prediction = predictor.predict_case(case, scan)
        except ApatiteError as error:
            error.where = error.where or case.case_id
            raise
        yield PredictedCase(
            case=case,
            scan=scan,
            prediction=prediction,
            reference=reference,
            annotated=tuple(manifest.annotated(case)),
            analytic_mm3=analytic_mm3(manifest, case),
        )


def analytic_mm3(manifest: Manifest, case: Case) -> float | None:
    """The true volume of a phantom inside the region that the network is given."""
    if not case.truth:
        return None
    try:
        truth = json.loads((manifest.root / case.truth).read_text(encoding="utf-8"))
        return sum(float(side["inside"]) for side in truth["analytic_mm3"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"its truth {case.truth} cannot be read",
            where=case.case_id,
            fix="make the cohort again, or empty its truth column",
            code="MISSING_FILE",
        ) from error
