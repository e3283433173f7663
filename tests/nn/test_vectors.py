"""Powers of two as they are computed in vectors, against float64."""

from typing import no_type_check

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from apatite.nn.vectors import VECTOR, Vectors


@pytest.fixture(scope="module")
def exp2():
    @intrinsic
    @no_type_check
    def in_place(_, numbers):
        def build(context, builder, signature, values):
            write = Vectors(context, builder)
            (place,) = write.pointers(signature.args, values)
            write.store(write.exp2(write.load(place, write.number(0), 0)), place, write.number(0), 0)
            return context.get_dummy_value()

        return types.void(numbers), build

    @njit
    @no_type_check
    def every(numbers):
        for row in numbers:
            in_place(row)

    def apply(numbers: np.ndarray) -> np.ndarray:
        result = numbers.astype(np.float32).reshape(-1, VECTOR).copy()
        every(result)
        return result.ravel()

    return apply


def test_powers_of_two_within_two_units_in_the_last_place(exp2):
    powers = np.concatenate([np.linspace(-126, 127, 160_000), np.linspace(-1, 1, 160_000)]).astype(np.float32)
    relative = exp2(powers) / np.exp2(powers.astype(np.float64)) - 1
    assert np.abs(relative).max() < 2.5e-7


def test_whole_powers_and_what_lies_below_the_smallest_number(exp2):
    whole = np.arange(-126, -126 + 2 * VECTOR)
    assert np.allclose(exp2(whole), np.exp2(whole.astype(np.float64)), rtol=1.3e-7, atol=0)
    assert np.all(exp2(np.full(VECTOR, -1e30)) == exp2(np.full(VECTOR, -126.0)))
    assert np.all(exp2(np.full(VECTOR, -126.0)) < 1.2e-38)
