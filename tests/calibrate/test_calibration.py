"""A calibration goes through a model card and comes back, threshold for threshold."""

import json

import numpy as np

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.calibration import Calibration, calibration_of, thresholds_of
from apatite.calibrate.threshold import THRESHOLDS, fit_threshold


def fit_at(index: int):
    """A fit whose best candidate is the one of this index."""
    curves = np.where(np.arange(len(THRESHOLDS)) == index, 0.0, 10.0)[None].repeat(5, axis=0)
    return fit_threshold(curves, np.zeros(5), list("abcde"), resamples=20)


CUTS = BurdenCuts(definition="deployed", cuts_mm3=(1.5, 2.5, 9.0), none_below_mm3=0.5, source="by hand")
CALIBRATION = Calibration(
    fits={7: {"ungated": fit_at(30), "gated": fit_at(60)}, 2: {"ungated": fit_at(120)}},
    burden={"gated": CUTS},
    num_cases=5,
    domains=["phantom"],
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
