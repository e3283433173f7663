import math

import pytest

from apatite.engine.schedule import warmup_cosine


def test_by_hand():
    factors = [warmup_cosine(step, 10, 4) for step in range(10)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    # Six steps of a half cosine from 1: cos(0), cos(π/6), ... cos(5π/6).
    cosine = [(1 + c) / 2 for c in (1, math.sqrt(3) / 2, 0.5, 0, -0.5, -math.sqrt(3) / 2)]
    assert factors[4:] == pytest.approx(cosine)
    assert warmup_cosine(10, 10, 4) == pytest.approx(0)


def test_without_warmup_it_starts_at_the_top():
    assert warmup_cosine(0, 10, 0) == 1.0
    assert warmup_cosine(5, 10, 0) == pytest.approx(0.5)


@pytest.mark.parametrize(("steps", "warmup_steps"), [(1, 0), (1, 1), (2, 1), (1000, 50)])
def test_every_step_learns_and_none_more_than_the_base_rate(steps, warmup_steps):
    factors = [warmup_cosine(step, steps, warmup_steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1
