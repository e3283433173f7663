"""Several labels as one figure, by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from apatite.study.outcomes import CaseOutcome
from apatite.study.quantities import OVER_LABELS
from apatite.study.sweep.label_means import label_means, mean_over_labels, with_labels

TWO = {2: "left organ", 5: "right organ"}


@pytest.fixture
def partly_annotated(make_outcome: Callable[..., CaseOutcome]) -> list[CaseOutcome]:
    """Four cases with the left organ (Dice 1, 1, 0.5, 0), one of them with the right one too (Dice 0.8)."""
    left = [make_outcome(name, tp, fp, fn, label=2) for name, tp, fp, fn in (("a", 4, 0, 0), ("b", 9, 0, 0))]
    left += [make_outcome("c", 2, 2, 2, label=2), make_outcome("d", 0, 0, 7, label=2)]
    return [*left, make_outcome("a", 4, 1, 1, label=5), make_outcome("b", 0, 3, 0, label=5)]


def test_labels_weigh_the_same_however_few_cases_have_them(partly_annotated: list[CaseOutcome]):
    values = np.array([row.overlap.dice for row in partly_annotated[:5]])
    assert mean_over_labels(with_labels(values, partly_annotated[:5])) == pytest.approx((2.5 / 4 + 0.8) / 2)
    assert values.mean() == pytest.approx(3.3 / 5)  # which is something else


def test_what_is_not_known_is_left_out_and_nothing_is_nothing():
    rows = np.array([[0.5, 3.0], [math.nan, 3.0], [math.nan, 7.0], [1.0, 1.0]])
    assert mean_over_labels(rows) == 0.75
    assert math.isnan(mean_over_labels(rows[1:3])) and math.isnan(mean_over_labels(rows[:0]))


def test_the_means_of_a_record(partly_annotated: list[CaseOutcome]):
    found = label_means({"test": {"raw": partly_annotated}}, TWO, 50)
    (means,) = found["test"]["raw"]
    assert (means["reading"], means["labels"]) == ("ungated", [2, 5])
    assert set(means["estimates"]) == set(OVER_LABELS) >= {"dice", "hd95_mm", "betti_error"}
    dice = means["estimates"]["dice"]
    # The right organ of case b is absent from its reference: no overlap to speak of.
    assert dice["value"] == pytest.approx((2.5 / 4 + 0.8) / 2)
    assert dice["low"] <= dice["value"] <= dice["high"]


def test_one_label_has_no_mean_over_labels(partly_annotated: list[CaseOutcome]):
    assert label_means({"test": {"raw": partly_annotated[:4]}}, {2: "left organ"}, 50) == {}
