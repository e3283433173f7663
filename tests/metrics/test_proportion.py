"""The exact interval of a share against statsmodels and against what defines it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from apatite.metrics.proportion import proportion


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_equals_statsmodels(pair, coverage):
    hits, cases = pair
    found = proportion(hits, cases, coverage)
    low, high = proportion_confint(hits, cases, 1 - coverage, method="beta")
    assert found.value == hits / cases
    assert (found.low, found.high) == (
        pytest.approx(0.0 if hits == 0 else low),
        pytest.approx(1.0 if hits == cases else high),
    )


def test_its_ends_are_where_the_tails_are_a_fortieth():
    found = proportion(36, 40)
    assert binom.sf(35, 40, found.low) == pytest.approx(0.025)
    assert binom.cdf(36, 40, found.high) == pytest.approx(0.025)


def test_nothing_and_nonsense():
    empty = proportion(0, 0)
    assert all(math.isnan(value) for value in (empty.value, empty.low, empty.high))
    for hits, cases in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="is no share"):
            proportion(hits, cases)
