"""The line against numpy's, and what it does to a volume."""

import numpy as np
import pytest

from apatite.calibrate.bias_line import BiasLine, fit_bias_line


def test_equals_numpys_line():
    rng = np.random.default_rng(2)
    predicted = rng.lognormal(3, 1, 40) * (rng.random(40) > 0.1)
    reference = np.expm1(0.2 + 0.9 * np.log1p(predicted) + rng.normal(0, 0.2, 40)).clip(0)
    line = fit_bias_line(predicted, reference)
    slope, intercept = np.polyfit(np.log1p(predicted), np.log1p(reference), 1)
    assert (line.slope, line.intercept, line.num_cases) == (pytest.approx(slope), pytest.approx(intercept), 40)


def test_a_known_line_is_recovered_and_undone():
    predicted = np.array([1.0, 10.0, 100.0])
    line = fit_bias_line(predicted, np.expm1(0.1 + 1.2 * np.log1p(predicted)))
    assert (line.slope, line.intercept) == (pytest.approx(1.2), pytest.approx(0.1))
    assert line.corrected(10.0) == pytest.approx(np.expm1(0.1 + 1.2 * np.log(11)))
    assert line.corrected(0.0) == 0.0
    assert BiasLine(slope=1.0, intercept=-3.0, num_cases=3).corrected(1.0) == 0.0


def test_equal_predictions_have_a_ratio_only():
    line = fit_bias_line(np.full(4, 9.0), np.array([9.0, 19.0, 9.0, 19.0]))
    assert (line.slope, line.intercept) == (1.0, pytest.approx(np.log(2) / 2))
    with pytest.raises(ValueError, match="0 predicted volumes"):
        fit_bias_line(np.empty(0), np.empty(0))
