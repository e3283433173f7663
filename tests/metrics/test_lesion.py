"""Lesions counted by hand, and against a flood fill written out."""

import math
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.metrics.lesion import LesionCounts, count_lesions

SHAPE = (4, 6, 9)


def lesions_by_flood_fill(is_lesion: np.ndarray) -> list[set[tuple[int, ...]]]:
    left = {tuple(int(i) for i in point) for point in np.argwhere(is_lesion)}
    lesions = []
    while left:
        front, lesion = [left.pop()], set()
        while front:
            point = front.pop()
            lesion.add(point)
            near = {tuple(p + s for p, s in zip(point, step, strict=True)) for step in product((-1, 0, 1), repeat=3)}
            front += list(near & left)
            left -= near
        lesions.append(lesion)
    return lesions


def test_one_prediction_over_two_lesions_finds_both_and_is_one() -> None:
    is_reference, is_predicted = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    is_reference[1, 2, [1, 4]] = True
    is_reference[3, 5, 8] = True
    is_predicted[1, 2, 1:5] = True
    is_predicted[0, 0, 8] = True
    counts = count_lesions(is_predicted, is_reference)
    assert counts == LesionCounts(reference=3, found=2, predicted=2, true=1)
    assert (counts.sensitivity, counts.precision) == (2 / 3, 1 / 2)
    assert counts.f1 == (2 + 1) / (3 + 2)


def test_f1_of_lesions_that_match_one_to_one_is_that_of_counts() -> None:
    counts = LesionCounts(reference=5, found=3, predicted=4, true=3)
    tp, fp, fn = 3, 1, 2
    assert counts.f1 == 2 * tp / (2 * tp + fp + fn)
    assert math.isnan(LesionCounts(reference=0, found=0, predicted=0, true=0).f1)


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    is_reference = np.zeros(SHAPE, bool)
    is_reference[0, 0, 0] = is_reference[1, 1, 1] = True
    assert count_lesions(np.zeros(SHAPE, bool), is_reference) == LesionCounts(reference=1, found=0, predicted=0, true=0)


def test_without_lesions_the_shares_are_nan() -> None:
    counts = count_lesions(np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))
    assert math.isnan(counts.sensitivity)
    assert math.isnan(counts.precision)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([0.02, 0.1, 0.3]))
def test_agrees_with_flood_fill(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    is_predicted, is_reference = rng.random(SHAPE) < density, rng.random(SHAPE) < density
    predicted, reference = lesions_by_flood_fill(is_predicted), lesions_by_flood_fill(is_reference)
    assert count_lesions(is_predicted, is_reference) == LesionCounts(
        reference=len(reference),
        found=sum(any(is_predicted[p] for p in lesion) for lesion in reference),
        predicted=len(predicted),
        true=sum(any(is_reference[p] for p in lesion) for lesion in predicted),
    )
