"""What one model did on one case, as counts and volumes on the original slices.

Every table, interval and figure of an evaluation is computed from these rows, so `cases.csv` is enough to recompute
all of them. Voxels are counted inside the region only, on the slices as acquired and never on the network's grid.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from apatite.calcium.measure import volume_mm3
from apatite.core.scan import Scan, SliceStack
from apatite.io.manifest import Case
from apatite.metrics.betti import betti_error
from apatite.metrics.lesion import count_lesions
from apatite.metrics.overlap import Overlap, overlap
from apatite.metrics.surface import TOLERANCE_MM, SurfaceDistances, span_mm, surface_distances


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """One model, one case, one label.

    Attributes:
        case_id: The case.
        patient_id: Its patient; intervals resample patients.
        label: Label value.
        true_positive: Voxels in prediction and reference.
        false_positive: Voxels in the prediction only.
        false_negative: Voxels in the reference only.
        true_negative: Voxels in neither, inside the region.
        predicted_mm3: Volume of the prediction.
        reference_mm3: Volume of the reference, by the rule on the acquired slices.
        analytic_mm3: True volume of a phantom, which no scanner sees; only ever shown beside the reference.
        lesions_reference: Lesions of the reference (26-connected).
        lesions_found: Those that the prediction touches.
        lesions_predicted: Lesions of the prediction.
        lesions_true: Those that touch the reference.
        slice_thickness_mm: Nominal; None where unknown.
        kernel_class: `soft`, `bone` or empty.
        vendor: Of the scanner; empty where unknown.
        hu_gate: Predictions count only at or above this many HU; None where they are not gated.
        surface_dice: At a tolerance of 1 mm; None where it was not measured or both sets are empty.
        hd95_mm: 95th percentile of the Hausdorff distance, the larger direction; the span of the region where one set
            is empty, None where both are or it was not measured.
        betti_error: |Δβ0| + |Δβ1| + |Δβ2|, 6-connected; None where it was not measured.
        soft_mm3: Σ calibrated probability × voxel volume; None without a temperature.
        low_mm3: Lower end of the interval on the volume; None without one.
        high_mm3: Its upper end.
    """

    case_id: str
    patient_id: str
    label: int
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    predicted_mm3: float
    reference_mm3: float
    analytic_mm3: float | None = None
    lesions_reference: int
    lesions_found: int
    lesions_predicted: int
    lesions_true: int
    slice_thickness_mm: float | None = None
    kernel_class: str = ""
    vendor: str = ""
    hu_gate: float | None = None
    surface_dice: float | None = None
    hd95_mm: float | None = None
    betti_error: int | None = None
    soft_mm3: float | None = None
    low_mm3: float | None = None
    high_mm3: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.predicted_mm3) and math.isfinite(self.reference_mm3)):
            raise ValueError(f"{self.case_id}: volumes {self.predicted_mm3} and {self.reference_mm3} are not finite")

    @property
    def overlap(self) -> Overlap:
        """The counts, with Dice, precision and recall."""
        return Overlap(
            true_positive=self.true_positive, false_positive=self.false_positive, false_negative=self.false_negative
        )

    @property
    def is_positive(self) -> bool:
        """Whether the reference marks anything in this case."""
        return self.true_positive + self.false_negative > 0

    @property
    def volume_difference_mm3(self) -> float:
        """Predicted minus reference."""
        return self.predicted_mm3 - self.reference_mm3


def outcome(  # noqa: PLR0913 - everything that is known of one case, the rest by name
    probability: Float[np.ndarray, "slices rows columns"],
    is_reference: Bool[np.ndarray, "slices rows columns"],
    scan: Scan,
    is_counted: Bool[np.ndarray, "slices rows columns"],
    threshold: float,
    *,
    hu_gate: float | None,
    case: Case,
    label: int,
    analytic_mm3: float | None = None,
    tolerance_mm: float = TOLERANCE_MM,
) -> CaseOutcome:
    """Compare a probability on the original slices with the reference.

    Args:
        probability: Of this label, at the original pixels. Where labels exclude each other, give 1.0 for the most
            probable label and 0.0 for the others, with threshold 0.5.
        is_reference: True where the reference marks this label.
        scan: The original slices.
        is_counted: True inside the region; all else is ignored, in the prediction and in the reference.
        threshold: A probability of at least this is a prediction.
        hu_gate: Count predictions only where the slice has at least this many HU (130 for calcium), or None. It is a
            switch of the evaluation and has to be the same for every model that is compared. Lone voxels are not
            dropped from predictions, although the annotation rule drops them from the reference.
        case: Its entry in the manifest.
        label: Label value.
        analytic_mm3: True volume, of phantoms only.
        tolerance_mm: Of the surface Dice; it has to be the same for every model that is compared.

    Raises:
        ValueError: an array does not fit the scan.
    """
    for name, array in (("probability", probability), ("reference", is_reference), ("region", is_counted)):
        if array.shape != scan.stack.shape:
            raise ValueError(f"{case.case_id}: {name} {array.shape} does not fit the slices {scan.stack.shape}")
    is_predicted = (probability >= threshold) & is_counted
    if hu_gate is not None:
        is_predicted &= scan.voxels_hu >= hu_gate
    is_true = is_reference & is_counted
    counts = overlap(is_predicted, is_true)
    lesions = count_lesions(is_predicted, is_true)
    surfaces = surface_distances(is_predicted, is_true, scan.stack)
    is_nowhere = not lesions.predicted + lesions.reference
    return CaseOutcome(
        case_id=case.case_id,
        patient_id=case.patient_id,
        label=label,
        true_positive=counts.true_positive,
        false_positive=counts.false_positive,
        false_negative=counts.false_negative,
        true_negative=int(np.count_nonzero(is_counted & ~is_predicted & ~is_true)),
        predicted_mm3=volume_mm3(is_predicted, scan.stack),
        reference_mm3=volume_mm3(is_true, scan.stack),
        analytic_mm3=analytic_mm3,
        lesions_reference=lesions.reference,
        lesions_found=lesions.found,
        lesions_predicted=lesions.predicted,
        lesions_true=lesions.true,
        slice_thickness_mm=case.slice_thickness_mm,
        kernel_class=case.kernel_class,
        vendor=case.vendor,
        hu_gate=hu_gate,
        surface_dice=None if is_nowhere else surfaces.dice(tolerance_mm),
        hd95_mm=None if is_nowhere else _hd95_mm(surfaces, is_counted, scan.stack),
        betti_error=betti_error(is_predicted, is_true),
    )


def _hd95_mm(
    surfaces: SurfaceDistances, is_counted: Bool[np.ndarray, "slices rows columns"], stack: SliceStack
) -> float:
    """HD95 of two sets that are not both empty."""
    distance_mm = surfaces.percentile_mm(0.95)
    # Left out, a case in which nothing was found would make a model better.
    return distance_mm if math.isfinite(distance_mm) else span_mm(is_counted, stack)


def is_annotated(case: Case, label: int) -> bool:
    """Whether a label was looked for in a case; where it was not, the case makes no row for it."""
    return bool(case.label) and (not case.annotated_labels or label in case.annotated_labels)
