"""Volumes without their own patient, against fitting the others by hand on cases that disagree."""

import numpy as np
import pytest

from apatite.calibrate.threshold import THRESHOLDS, fit_threshold
from apatite.core.errors import ConfigError
from apatite.study.development import Curves, Development
from apatite.study.site_fit import RecalibrateConfig, folds_of, threshold_before, volumes_without_own

KEY = (1, "gated")


def disagreeing(patients: list[str]) -> Development:
    """Every case's volume falls from its own height, and each would like another threshold."""
    rng = np.random.default_rng(8)
    height = rng.uniform(50, 150, len(patients))
    curves = Curves(
        curves_mm3=height[:, None] * (1 - THRESHOLDS)[None],
        reference_mm3=height * rng.uniform(0.05, 0.95, len(patients)),
        patients=patients,
        thickness_mm=[2.0] * len(patients),
    )
    return Development(
        curves={KEY: curves},
        logits={},
        two_voxels_mm3=0.5,
        label_names={1: "calcium"},
        patients=patients,
        thickness_mm=curves.thickness_mm,
        domains=["real"],
    )


def test_each_volume_is_read_at_the_threshold_of_the_others():
    patients = [f"p{number % 11}" for number in range(14)]
    development, config = disagreeing(patients), RecalibrateConfig(seed=3)
    curves = development.curves[KEY]
    found = volumes_without_own(development, None, config)[KEY]
    thresholds = set()
    for fold in folds_of(patients, curves.thickness_mm, 5, 3):
        others = [row for row, patient in enumerate(patients) if patient not in fold]
        fit = fit_threshold(
            curves.curves_mm3[others], curves.reference_mm3[others], [patients[row] for row in others], resamples=0
        )
        thresholds.add(fit.threshold)
        for row in sorted(set(range(len(patients))) - set(others)):
            assert found[row] == pytest.approx(curves.curves_mm3[row, 0] / (1 - THRESHOLDS[0]) * (1 - fit.threshold))
    everyone = fit_threshold(curves.curves_mm3, curves.reference_mm3, patients, resamples=0)
    assert len(thresholds) > 2
    assert thresholds != {everyone.threshold}


def test_a_kept_threshold_reads_everyone_alike():
    patients = [f"p{number}" for number in range(12)]
    development = disagreeing(patients)
    found = volumes_without_own(development, None, RecalibrateConfig(keeps_threshold=True))[KEY]
    np.testing.assert_allclose(found, development.curves[KEY].curves_mm3[:, 90])
    assert threshold_before(None, KEY) == 0.5


def test_folds_divide_patients_and_hold_every_thickness():
    patients = [f"p{number // 2}" for number in range(46)]
    thickness = [1.0 if number < 20 else 5.0 for number in range(46)]
    folds = folds_of(patients, thickness, 5, 0)
    assert sorted(name for fold in folds for name in fold) == sorted(set(patients))
    assert {len(fold) for fold in folds} == {4, 5}
    assert all(len([name for name in fold if int(name[1:]) < 10]) == 2 for fold in folds)
    assert folds == folds_of(patients, thickness, 5, 0)
    assert folds != folds_of(patients, thickness, 5, 1)
    assert len(folds_of(["a", "b"], [None, None], 5, 0)) == 2


def test_fewer_folds_would_leave_too_few_to_fit_on():
    with pytest.raises(ConfigError, match="4 folds"):
        RecalibrateConfig(folds=4)
