"""A calibration goes through a model card and comes back, threshold for threshold."""

import json

import numpy as np
import pytest

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.calibration import Calibration, calibration_of, thresholds_of
from apatite.calibrate.interval import IntervalFitConfig, fit_interval
from apatite.calibrate.logit_histogram import logit_histogram
from apatite.calibrate.temperature import fit_temperature
from apatite.calibrate.threshold import THRESHOLDS, fit_threshold
from apatite.core.errors import ModelError


def fit_at(index: int):
    """A fit whose best candidate is the one of this index."""
    curves = np.where(np.arange(len(THRESHOLDS)) == index, 0.0, 10.0)[None].repeat(5, axis=0)
    return fit_threshold(curves, np.zeros(5), list("abcde"), resamples=20)


def temperature():
    histogram = logit_histogram(np.array([0.1, 0.4, 0.7]), np.array([False, True, False]), np.ones(3))
    return fit_temperature([histogram] * 5, list("abcde"), [1.0, 2.0, 2.5, 5.0, None], resamples=20)


def interval():
    volumes = np.linspace(3.0, 90.0, 12)
    return fit_interval(volumes, volumes * 1.1, [str(n) for n in range(12)], [2.5] * 12, IntervalFitConfig())


CUTS = BurdenCuts(definition="deployed", cuts_mm3=(1.5, 2.5, 9.0), none_below_mm3=0.5, source="by hand")
CALIBRATION = Calibration(
    fits={7: {"ungated": fit_at(30), "gated": fit_at(60)}, 2: {"ungated": fit_at(120)}},
    burden={"gated": CUTS},
    num_cases=5,
    domains=["phantom"],
    temperatures={7: temperature()},
    intervals={"gated": interval()},
    model_digest="0123abcd",
    data_digest="fedc9876",
)


def test_through_json_and_back():
    text = json.dumps([CALIBRATION.to_dict(), CALIBRATION.burden_dict()], allow_nan=False)
    values, burden = json.loads(text)
    assert calibration_of(values, burden, ["phantom"]) == CALIBRATION
    assert calibration_of(None, None, []) is None
    without = Calibration(fits=CALIBRATION.fits, burden={}, num_cases=5, domains=["real"])
    assert without.burden_dict() is None
    assert calibration_of(json.loads(json.dumps(without.to_dict())), None, ["real"]) == without


def test_thresholds_come_in_the_order_of_the_labels():
    assert thresholds_of(CALIBRATION, (2, 7), "ungated") == [THRESHOLDS[120], THRESHOLDS[30]]
    assert thresholds_of(CALIBRATION, (7, 2), "gated") == [THRESHOLDS[60], 0.5]
    assert thresholds_of(CALIBRATION, (3,), "gated") == [0.5]
    assert thresholds_of(None, (2, 7), "gated") == [0.5, 0.5]


OLDER = {
    "labels": {"1": {"ungated": fit_at(30).to_dict(), "gated": fit_at(60).to_dict()}},
    "num_cases": 41,
}
"""As cards were written before there were temperatures and intervals."""


def test_a_card_of_an_earlier_version_has_thresholds_only():
    found = calibration_of(json.loads(json.dumps(OLDER)), {"gated": CUTS.to_dict()}, ["phantom"])
    assert found is not None
    assert (found.threshold(1, "ungated"), found.threshold(1, "gated")) == (THRESHOLDS[30], THRESHOLDS[60])
    assert (found.num_cases, found.burden) == (41, {"gated": CUTS})
    assert (found.temperatures, found.intervals, found.model_digest, found.data_digest) == ({}, {}, "", "")


FIT = temperature().to_dict()
HOSTILE = {
    "temperatures that are a list": {"temperatures": [FIT]},
    "a temperature without its numbers": {"temperatures": {"1": {"temperature": 2.0}}},
    "a temperature of 0": {"temperatures": {"1": {**FIT, "temperature": 0.0}}},
    "a temperature in words": {"temperatures": {"1": {**FIT, "temperature": "2"}}},
    "a temperature of thousands of digits": {"temperatures": {"1": {**FIT, "temperature": 10**400}}},
    "a slope without end": {"temperatures": {"1": {**FIT, "slope": 1e300}}},
    "one thickness": {"temperatures": {"1": {**FIT, "seen_mm": [1.0]}}},
    "thicknesses the wrong way round": {"temperatures": {"1": {**FIT, "seen_mm": [5.0, 1.0]}}},
    "a label that is no number": {"temperatures": {"calcium": FIT}},
    "intervals that are a number": {"intervals": 3},
    "an interval without groups": {"intervals": {"gated": {"coverage": 0.9}}},
    "a coverage above 1": {"intervals": {"gated": {**interval().to_dict(), "coverage": 2}}},
    "a digest that is no text": {"model_digest": {"a": 1}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_a_model_error(name):
    with pytest.raises(ModelError) as caught:
        calibration_of({**OLDER, **HOSTILE[name]}, None, ["phantom"])
    assert caught.value.code == "MODEL_VERSION"
