"""Outcomes whose every number can be checked by hand."""

from collections.abc import Callable

import pytest

from apatite.study.outcomes import CaseOutcome


@pytest.fixture
def make_outcome() -> Callable[..., CaseOutcome]:
    """A case from its three counts; one voxel is half a cubic millimetre."""

    def make(case_id: str, tp: int, fp: int, fn: int, **changes: object) -> CaseOutcome:
        values: dict[str, object] = {
            "case_id": case_id,
            "patient_id": f"patient of {case_id}",
            "label": 1,
            "true_positive": tp,
            "false_positive": fp,
            "false_negative": fn,
            "true_negative": 1000 - tp - fp - fn,
            "predicted_mm3": 0.5 * (tp + fp),
            "reference_mm3": 0.5 * (tp + fn),
            "lesions_reference": 2 if tp + fn else 0,
            "lesions_found": 1 if tp else 0,
            "lesions_predicted": 1 if tp + fp else 0,
            "lesions_true": 1 if tp else 0,
        }
        return CaseOutcome(**{**values, **changes})  # pyright: ignore[reportArgumentType]

    return make


@pytest.fixture
def four_cases(make_outcome: Callable[..., CaseOutcome]) -> list[CaseOutcome]:
    """Three cases with calcium (one in which nothing was predicted) and one without, with a false finding."""
    return [
        make_outcome("a", 6, 2, 2, slice_thickness_mm=1.0, kernel_class="soft"),
        make_outcome("b", 10, 0, 10, slice_thickness_mm=5.0, kernel_class="bone"),
        make_outcome("c", 0, 0, 4, slice_thickness_mm=5.0, kernel_class="soft"),
        make_outcome("d", 0, 6, 0, slice_thickness_mm=8.0),
    ]
