import math

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.nn.positions import sincos_positions


def test_by_hand():
    table = sincos_positions((2, 3, 4), 12)
    # Token 17 is (depth 1, height 1, width 1): 1*12 + 1*4 + 1.
    row = table[17].tolist()
    frequency = [1.0, 10000 ** (-1 / 2)]
    expected = []
    for place in (1, 1, 1):
        expected += [math.sin(place * f) for f in frequency] + [math.cos(place * f) for f in frequency]
    assert row == pytest.approx(expected, abs=1e-6)


def test_every_token_has_its_own_position():
    table = sincos_positions((4, 6, 10), 24)
    assert torch.unique(table, dim=0).shape[0] == 240


def test_a_width_that_is_no_multiple_of_six_is_refused():
    with pytest.raises(ConfigError, match="divisible by 6"):
        sincos_positions((2, 2, 2), 16)
