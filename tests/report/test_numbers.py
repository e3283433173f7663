import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.core.volume import Estimate
from apatite.report.numbers import cell_text, estimate_json, number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.6543, "0.654"), (0.62, "0.620"), (188.4, "188"), (1234.5, "1230"), (-47.36, "−47.4"), (0.0, "0.00"),
        (0.01234, "0.0123"), (99.96, "100"), (-1e-15, "0.00"), (float("nan"), "–"),
    ],
)  # fmt: skip
def test_three_significant_figures(value: float, text: str):
    assert number_text(value) == text


def test_counts_are_exact_and_nothing_is_a_dash():
    assert [cell_text(cell) for cell in (12345, None, "soft", -3)] == ["12345", "–", "soft", "−3"]


def test_an_interval_shares_its_last_digit():
    assert cell_text(Estimate(value=5.21, low=-118.6, high=140.2, unit="mm³", coverage=0.95)) == "5 [−119; 140]"
    assert cell_text(Estimate(value=0.651, low=0.62, high=0.684, unit="", coverage=0.95)) == "0.651 [0.620; 0.684]"
    assert cell_text(Estimate(value=0.5, low=math.nan, high=math.nan, unit="", coverage=0.95)) == "0.500"


@given(st.floats(min_value=-1e6, max_value=1e6).filter(lambda value: abs(value) > 1e-6))
def test_the_text_is_the_number_to_half_of_the_third_figure(value: float):
    read = float(number_text(value).replace("−", "-"))
    assert abs(read - value) <= 0.5001 * 10 ** (math.floor(math.log10(abs(value))) - 2)


def test_json_holds_no_nan():
    values = estimate_json(Estimate(value=math.nan, low=math.nan, high=math.inf, unit="mm³", coverage=0.95))
    assert json.loads(json.dumps(values, allow_nan=False)) == {
        "value": None, "low": None, "high": None, "unit": "mm³", "coverage": 0.95,
    }  # fmt: skip
