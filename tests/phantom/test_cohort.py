import hashlib
import json

import numpy as np
import pytest

from apatite.calcium.measure import slice_weights_mm
from apatite.core.errors import ConfigError
from apatite.ct.region import cut_region
from apatite.phantom.cohort import PRESETS, VERSION, CohortConfig, draw_patient, make_patient, make_series, truth_of
from apatite.phantom.density import fill_tissue


def test_a_cohort_is_distributed_like_the_trial():
    patients = [draw_patient(CohortConfig(seed=1), number) for number in range(110)]
    volumes = np.array([patient.analytic_mm3 for patient in patients])
    assert np.mean(volumes == 0) == pytest.approx(0.11, abs=0.07)
    assert np.median(volumes[volumes > 0]) == pytest.approx(60, rel=0.4)
    assert np.log(volumes[volumes > 0]).std() == pytest.approx(1.4, abs=0.3)
    assert np.mean([patient.num_series for patient in patients]) == pytest.approx(2.58, abs=0.35)
    assert len({patient.vendor for patient in patients}) == 5
    sides = np.array([[pieces.volume_mm3.sum() for pieces in patient.calcium] for patient in patients])
    assert 0.3 < np.corrcoef(np.log1p(sides).T)[0, 1] < 0.97


def test_a_screening_cohort_has_less():
    patients = [draw_patient(CohortConfig(seed=1, prevalence="screening"), number) for number in range(80)]
    volumes = np.array([patient.analytic_mm3 for patient in patients])
    assert np.mean(volumes == 0) == pytest.approx(0.40, abs=0.15)
    assert np.median(volumes[volumes > 0]) < 40


def test_a_patient_does_not_depend_on_others_nor_on_the_size_of_the_cohort():
    alone = next(make_patient(CohortConfig(patients=1, first=4, seed=9), 4))
    among = CohortConfig(patients=50, seed=9)
    draw_patient(among, 7)
    again = next(make_patient(among, 4))
    assert np.array_equal(alone.acquisition.scan.voxels_hu, again.acquisition.scan.voxels_hu)
    assert truth_of(alone) == truth_of(again)
    other = draw_patient(CohortConfig(patients=50, seed=10), 4)
    assert other.analytic_mm3 != again.patient.analytic_mm3


def test_series_of_a_patient_share_anatomy_and_differ_in_acquisition(config, patient):
    tissue = fill_tissue(patient.anatomy, 0.9)
    first, second = (make_series(config, patient, tissue, number) for number in (1, 2))
    assert first.protocol != second.protocol
    left, right = (truth_of(series)["analytic_mm3"] for series in (first, second))
    for side in ("left", "right"):
        assert sum(left[side].values()) == pytest.approx(sum(right[side].values()))


def test_right_is_right(config, patient):
    """What is called right lies at larger RAS x, and is measured there on the slices."""
    series = make_series(config, patient, fill_tissue(patient.anatomy, 0.9), 1)
    right, left = (series.pose.to_ras(pieces.points_mm)[:, 0].mean() for pieces in patient.calcium)
    assert right > left + 10
    truth = truth_of(series)
    for side, pieces in zip(("right", "left"), patient.calcium, strict=True):
        assert sum(truth["analytic_mm3"][side].values()) == pytest.approx(float(pieces.volume_mm3.sum()))
    stack = series.acquisition.scan.stack
    measured = {True: 0.0, False: 0.0}
    for k, weight in enumerate(slice_weights_mm(stack)):
        points = stack.to_ras(k, np.argwhere(series.is_calcium[k]).astype(float))
        is_right = ((points - series.pose.shift_mm) @ series.pose.turn)[:, 0] > 0
        for side in measured:
            measured[side] += float((is_right == side).sum() * weight * stack.pixel_mm2)
    assert min(measured.values()) > 1
    assert sum(truth["rule_mm3"]["right"].values()) == pytest.approx(measured[True])
    assert sum(truth["rule_mm3"]["left"].values()) == pytest.approx(measured[False])


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_the_region_can_be_cut_from_the_slices_without_padding(preset):
    config = CohortConfig(preset=preset, seed=3)
    series = next(make_patient(config, 1))
    volume = cut_region(series.acquisition.scan, series.region)
    assert volume.voxels.shape == PRESETS[preset].region.shape
    assert volume.voxels.min() > -1024 or (series.acquisition.scan.voxels_hu == -1024).any()
    error = np.linalg.norm(series.region.centre_ras_mm - series.pose.shift_mm)
    assert 0 < error <= 8
    assert series.is_inside.any() and not series.is_inside.all()


def test_truth_is_plain_json_and_adds_up(config, patient):
    series = make_series(config, patient, fill_tissue(patient.anatomy, 0.9), 1)
    truth = json.loads(json.dumps(truth_of(series), allow_nan=False))
    assert truth["version"] == VERSION
    for side in ("right", "left"):
        plaques = sum(p["volume_mm3"] * p["inside_share"] for p in truth["plaques"] if p["side"] == side)
        assert plaques == pytest.approx(truth["analytic_mm3"][side]["inside"], rel=1e-6)


def test_an_empty_cohort_is_refused():
    with pytest.raises(ConfigError, match="no cohort"):
        CohortConfig(patients=0)


def test_what_is_drawn_is_frozen():
    """A change of this digest is a new version of the phantom."""
    patient = draw_patient(CohortConfig(seed=0), 2)
    table, _ = patient.anatomy.solids.table()
    drawn = [
        table.sum(),
        *patient.anatomy.scalars.values(),
        *(p.volume_mm3 for p in patient.anatomy.plaques),
        patient.age,
    ]
    digest = hashlib.sha256(",".join(f"{value:.4f}" for value in drawn).encode()).hexdigest()[:16]
    assert (VERSION, digest) == ("phantom-1", "844cd2a960a22129")
