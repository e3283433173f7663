"""Both scales go there and back, and an interval never leaves the volumes that exist."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.calibrate.scale import SCALES

VOLUMES = st.floats(0, 1e5)


@given(st.sampled_from(sorted(SCALES)), VOLUMES, VOLUMES)
def test_a_volume_lies_at_the_end_of_its_own_distance(name, one, other):
    scale = SCALES[name]
    distance = float(scale.difference(np.array([other]), np.array([one]))[0])
    low, high = scale.around(one, abs(distance), abs(distance))
    assert 0 <= low <= one * (1 + 1e-9) + 1e-9
    assert high >= one * (1 - 1e-9) - 1e-9
    assert min(abs(low - other), abs(high - other)) <= 1e-6 * (1 + other)


def test_by_hand():
    assert SCALES["root"].around(16.0, 1.0, 2.0) == (9.0, 36.0)
    assert SCALES["root"].around(4.0, 3.0, 0.0) == (0.0, 4.0)
    low, high = SCALES["log"].around(9.0, math.log(5), math.log(2))
    assert (low, high) == (pytest.approx(1.0), pytest.approx(19.0))
    assert SCALES["log"].around(1.0, 9.0, 0.0)[0] == 0.0
    np.testing.assert_allclose(SCALES["root"].difference(np.array([9, 1]), np.array([4, 4])), [1, -1])
