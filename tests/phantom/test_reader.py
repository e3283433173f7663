import numpy as np
import pytest

from apatite.calcium.rule import CALCIUM_HU
from apatite.phantom.cohort import CohortConfig, make_patient
from apatite.phantom.reader import read_humanly, read_perfectly


@pytest.fixture(scope="module")
def sample():
    config = CohortConfig(seed=2)
    return [series for number in range(7) for series in make_patient(config, number)]


def test_readers_are_about_as_good_as_people(sample):
    right = missed = wrong = 0
    for series in sample:
        for reader in series.readers:
            right += int((reader & series.is_calcium).sum())
            missed += int((~reader & series.is_calcium).sum())
            wrong += int((reader & ~series.is_calcium).sum())
    assert right / (right + missed) == pytest.approx(0.74, abs=0.07)
    assert right / (right + wrong) == pytest.approx(0.90, abs=0.06)


def test_readers_differ_and_obey_the_rule(sample):
    assert any((series.readers[0] != series.readers[1]).any() for series in sample)
    for series in sample:
        for marked in (series.is_calcium, *series.readers):
            assert np.all(series.acquisition.scan.voxels_hu[marked] >= CALCIUM_HU)


def test_a_patient_without_calcium_has_an_empty_truth(sample):
    none = [s for s in sample if s.patient.analytic_mm3 == 0]
    some = [s for s in sample if s.patient.analytic_mm3 > 50]
    assert some and all(s.is_calcium.any() for s in some if s.protocol.thickness_mm < 3)
    for series in none:
        assert not series.is_calcium.any() and not series.acquisition.excess_hu.any()


def test_the_perfect_reader_leaves_bone_out(sample):
    for series in sample:
        marked = read_perfectly(series.acquisition)
        assert np.array_equal(marked, series.is_calcium)
        assert not (marked & (series.acquisition.bone > 0.95)).any()


def test_a_reader_is_a_function_of_its_randomness(sample):
    series = max(sample, key=lambda s: s.is_calcium.sum())
    first, second = (read_humanly(series.acquisition, series.is_calcium, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
