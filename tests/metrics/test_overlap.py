"""Overlap against sets counted by hand and against the definition of F1."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import TypeCheckError

from apatite.metrics.overlap import Overlap, overlap

SHAPE = (3, 4, 5)
masks = hnp.arrays(bool, SHAPE)


def test_counts_by_hand() -> None:
    is_predicted, is_reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    is_predicted[0, 1, :3] = True
    is_reference[0, 1, 2:] = True
    counted = overlap(is_predicted, is_reference)
    assert counted == Overlap(true_positive=1, false_positive=2, false_negative=2)
    assert counted.dice == pytest.approx(2 / 6)
    assert counted.precision == pytest.approx(1 / 3)
    assert counted.recall == pytest.approx(1 / 3)


@given(masks, masks)
def test_dice_is_the_harmonic_mean_and_swapping_swaps_precision_and_recall(a: np.ndarray, b: np.ndarray) -> None:
    forward, backward = overlap(a, b), overlap(b, a)
    assert forward.true_positive + forward.false_positive == np.count_nonzero(a)
    assert forward.true_positive + forward.false_negative == np.count_nonzero(b)
    assert (forward.precision, forward.recall) == pytest.approx((backward.recall, backward.precision), nan_ok=True)
    if forward.true_positive:
        harmonic = 2 / (1 / forward.precision + 1 / forward.recall)
        assert forward.dice == pytest.approx(harmonic)


@pytest.mark.parametrize(
    ("fp", "fn", "dice", "precision", "recall"),
    [(0, 0, math.nan, math.nan, math.nan), (2, 0, 0.0, 0.0, math.nan), (0, 2, 0.0, math.nan, 0.0)],
)
def test_undefined_ratios_are_nan(fp: int, fn: int, dice: float, precision: float, recall: float) -> None:
    empty = Overlap(true_positive=0, false_positive=fp, false_negative=fn)
    assert (empty.dice, empty.precision, empty.recall) == pytest.approx((dice, precision, recall), nan_ok=True)


def test_shapes_are_not_broadcast() -> None:
    # With jaxtyping switched on in the tests, its own error comes first; both name the shapes.
    with pytest.raises((ValueError, TypeCheckError), match=r"shape"):
        overlap(np.zeros(SHAPE, bool), np.zeros((1, 4, 5), bool))


@given(st.integers(-3, -1))
def test_negative_counts_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        Overlap(true_positive=1, false_positive=count, false_negative=0)
