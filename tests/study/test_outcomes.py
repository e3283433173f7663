import math

import numpy as np
import pytest

from apatite.core.scan import Scan, SliceStack
from apatite.io.manifest import Case
from apatite.study.outcomes import is_annotated, outcome


@pytest.fixture
def scan() -> Scan:
    """Three uneven slices of 5 × 7 pixels of 0.5 × 0.4 mm: weights 2, 2.5 and 3 mm."""
    stack = SliceStack(
        shape=(3, 5, 7),
        origins_ras_mm=np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 5.0]]),
        column_step_ras_mm=np.array([0.4, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 0.5, 0.0]),
        thickness_mm=np.array([2.0, 3.0, 3.0]),
    )
    voxels_hu = np.full((3, 5, 7), 40, dtype=np.int16)
    voxels_hu[0, 1, 1:4] = 200
    voxels_hu[2, 3, 5] = 129
    return Scan(voxels_hu=voxels_hu, stack=stack)


def fields(scan: Scan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probability = np.zeros(scan.stack.shape, dtype=np.float32)
    probability[0, 1, 2:5] = 0.5  # two voxels at 200 HU, one at 40 HU
    probability[2, 3, 5] = 0.9  # one HU short of the gate
    probability[1, 4, 6] = 1.0  # outside the region
    is_reference = np.zeros(scan.stack.shape, dtype=bool)
    is_reference[0, 1, 1:4] = True
    is_reference[1, 4, 5] = True  # outside the region
    is_counted = np.ones(scan.stack.shape, dtype=bool)
    is_counted[1, 4] = False
    return probability, is_reference, is_counted


def test_voxels_and_volumes_are_counted_on_the_slices_inside_the_region(scan: Scan):
    probability, is_reference, is_counted = fields(scan)
    case = Case(
        case_id="c1", patient_id="p1", image="c1.nii.gz", slice_thickness_mm=3.0, kernel_class="bone", vendor="A"
    )
    found = outcome(
        probability, is_reference, scan, is_counted, 0.5, hu_gate=None, case=case, label=1, analytic_mm3=9.5
    )
    assert (found.true_positive, found.false_positive, found.false_negative, found.true_negative) == (2, 2, 1, 93)
    assert found.predicted_mm3 == pytest.approx(0.2 * (3 * 2.0 + 1 * 3.0))
    assert found.reference_mm3 == pytest.approx(0.2 * 3 * 2.0)
    assert (found.lesions_reference, found.lesions_found, found.lesions_predicted, found.lesions_true) == (1, 1, 2, 1)
    assert (found.case_id, found.patient_id, found.kernel_class, found.vendor) == ("c1", "p1", "bone", "A")
    assert (found.slice_thickness_mm, found.analytic_mm3) == (3.0, 9.5)


def test_the_gate_removes_predictions_below_130_hu_and_leaves_the_reference(scan: Scan):
    probability, is_reference, is_counted = fields(scan)
    case = Case(case_id="c1", patient_id="p1", image="c1.nii.gz")
    gated = outcome(probability, is_reference, scan, is_counted, 0.5, hu_gate=130.0, case=case, label=1)
    assert (gated.true_positive, gated.false_positive, gated.false_negative) == (2, 0, 1)
    assert gated.reference_mm3 == pytest.approx(1.2)
    assert gated.hu_gate == 130.0


def test_surfaces_are_compared_in_mm_inside_the_region(scan: Scan):
    probability, is_reference, is_counted = fields(scan)
    case = Case(case_id="c1", patient_id="p1", image="c1.nii.gz")

    def surface(tolerance_mm: float, **changes: np.ndarray) -> float | None:
        parts = {"probability": probability, "is_reference": is_reference, **changes}
        return outcome(
            parts["probability"], parts["is_reference"], scan, is_counted, 0.5, hu_gate=None, case=case, label=1,
            tolerance_mm=tolerance_mm,
        ).surface_dice  # fmt: skip

    # Three pixels of 0.4 × 0.5 mm in a slice 2 mm deep, moved by one column of 0.4 mm: 2·(1.2·0.5 + 2·1.7) mm² each.
    # The lone pixel of the last slice, 3 mm deep, lies further from anything than 0.4 mm.
    around, lone = 2 * (0.6 + 2 * 1.7), 2 * (0.2 + 3 * 0.9)
    assert surface(0.4) == pytest.approx(2 * around / (2 * around + lone))
    nothing = {"probability": np.zeros_like(probability), "is_reference": np.zeros_like(is_reference)}
    assert surface(0.4, probability=nothing["probability"]) == 0.0
    assert surface(0.4, **nothing) is None


def test_hd95_and_betti_error_by_hand_and_what_they_are_where_nothing_is(scan: Scan):
    probability, is_reference, is_counted = fields(scan)
    case = Case(case_id="c1", patient_id="p1", image="c1.nii.gz")

    def judged(found: np.ndarray, wanted: np.ndarray, hu_gate: float | None = None):
        return outcome(found, wanted, scan, is_counted, 0.5, hu_gate=hu_gate, case=case, label=1)

    # A second component, two slices away. Its top of 0.2 mm² is under 5 % of 13.8 mm², but not so with its furthest
    # side, whose middle is 4 mm above the reference's edge, 1 mm of rows and 0.6 mm of columns beside it.
    both = judged(probability, is_reference)
    assert both.betti_error == 1
    assert both.hd95_mm == pytest.approx(math.hypot(4.0, 1.0, 0.6))
    # Gated, two voxels of three are left: one end of 1 mm² of 6 lies one column of 0.4 mm inside.
    gated = judged(probability, is_reference, 130.0)
    assert (gated.betti_error, gated.hd95_mm) == (0, pytest.approx(0.4))
    nothing = np.zeros_like(probability)
    # The region spans borders from −1 to 6.5 mm, five rows of 0.5 and seven columns of 0.4 mm.
    span_mm = math.hypot(7.5, 2.5, 2.8)
    missed, invented = judged(nothing, is_reference), judged(probability, np.zeros_like(is_reference))
    assert missed.hd95_mm == invented.hd95_mm == pytest.approx(span_mm)
    assert (missed.betti_error, invented.betti_error) == (1, 2)
    is_counted[2] = False
    assert judged(nothing, is_reference).hd95_mm == pytest.approx(math.hypot(4.5, 2.5, 2.8))
    neither = judged(nothing, np.zeros_like(is_reference))
    assert (neither.hd95_mm, neither.surface_dice, neither.betti_error) == (None, None, 0)


def test_a_probability_equal_to_the_threshold_is_a_prediction(scan: Scan):
    probability, is_reference, is_counted = fields(scan)
    case = Case(case_id="c1", patient_id="p1", image="c1.nii.gz")
    above = outcome(probability, is_reference, scan, is_counted, 0.51, hu_gate=None, case=case, label=1)
    assert (above.true_positive, above.false_positive) == (0, 1)


def test_an_array_of_another_shape_is_refused_by_name(scan: Scan):
    probability, is_reference, is_counted = fields(scan)
    case = Case(case_id="c1", patient_id="p1", image="c1.nii.gz")
    with pytest.raises(Exception, match=r"c1: reference|shape|is_reference"):
        outcome(probability, is_reference[:, :, :6], scan, is_counted, 0.5, hu_gate=None, case=case, label=1)


def test_a_label_that_was_not_looked_for_makes_no_row():
    partly = Case(case_id="c", patient_id="p", image="i.nii.gz", label="l.nii.gz", annotated_labels=(1, 3))
    fully = Case(case_id="c", patient_id="p", image="i.nii.gz", label="l.nii.gz")
    unlabelled = Case(case_id="c", patient_id="p", image="i.nii.gz")
    assert [is_annotated(partly, label) for label in (1, 2, 3)] == [True, False, True]
    assert is_annotated(fully, 2)
    assert not is_annotated(unlabelled, 1)
