"""A phantom patient scanned again: the same patient, one thing changed, and the perfect reader's word."""

from dataclasses import replace

import numpy as np
import pytest

from apatite.core.commit import commit_json
from apatite.core.errors import DataError
from apatite.ct.degrade.registry import DEGRADATIONS
from apatite.data.prepare import PrepareConfig, prepare
from apatite.io.manifest import Manifest, read_manifest, write_manifest
from apatite.io.nifti import read_scan, write_label
from apatite.io.store import Prepared
from apatite.phantom.cohort import CohortConfig, draw_patient
from apatite.phantom.folder import write_cohort
from apatite.phantom.protocol import VENDORS, Protocol
from apatite.phantom.reader import read_perfectly
from apatite.study.intervals import IntervalConfig
from apatite.study.robustness.config import RobustnessConfig
from apatite.study.robustness.method import check_method, summarise_method
from apatite.study.robustness.original import at_level, read_original
from apatite.study.robustness.rescan import CHANGES, RESCANS, as_vendor, find_phantom, scan_again
from apatite.study.robustness.run import robustness

SEED = 5
FIRST = 10
"""The one patient: calcium, one series, thin slices."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("cohort") / "made"
    return write_cohort(CohortConfig(patients=1, preset="small", seed=SEED, first=FIRST), folder)


@pytest.fixture(scope="module")
def prepared(cohort) -> Prepared:
    cases = tuple(replace(case, split="test") for case in cohort.cases)
    manifest = replace(cohort, cases=cases)
    write_manifest(cohort.root / "split.csv", manifest)
    prepare(read_manifest(cohort.root / "split.csv"), cohort.root / "prepared", PrepareConfig())
    return Prepared.open(cohort.root / "prepared")


@pytest.fixture(scope="module")
def original(prepared):
    return read_original(prepared, prepared.cases[0], rescan=True)


def step(name: str, level: float):
    return RESCANS[name](level=level)


def test_the_patient_is_drawn_again_and_the_annotation_is_the_perfect_readers(original, cohort):
    series = original.phantom.series
    case = cohort.cases[0]
    assert np.array_equal(series.acquisition.scan.voxels_hu, read_scan(cohort.image_path(case)).voxels_hu)
    assert np.array_equal(original.references[1], series.is_calcium)
    assert original.analytic_mm3 == pytest.approx(draw_patient(CohortConfig(seed=SEED), FIRST).analytic_mm3, rel=0.35)
    assert original.thickness_mm <= 1.5


def test_one_thing_changes_and_the_slices_stay(original):
    phantom = original.phantom
    first = phantom.series.acquisition
    protocol = phantom.series.protocol
    noisier = scan_again(phantom, "noise", step("noise", 40.0))
    assert noisier.scan.stack is first.scan.stack
    assert np.array_equal(noisier.excess_hu, first.excess_hu)
    brain = (first.bone == 0) & (first.artery == 0) & (np.abs(first.scan.voxels_hu - 30.0) < 60)
    added = np.std((noisier.scan.voxels_hu - first.scan.voxels_hu.astype(float))[brain])
    assert added == pytest.approx(np.hypot(np.hypot(protocol.noise_hu, 40), protocol.noise_hu), rel=0.25)
    thick = scan_again(phantom, "thickness", step("thickness", 5.0))
    assert thick.scan.stack.thickness_mm == pytest.approx(5.0)
    # The same calcium in fewer slices, to the share that falls on the ends.
    total = [
        float(a.excess_hu.sum()) * a.scan.stack.thickness_mm[0]
        for a in (thick, scan_again(phantom, "thickness", step("thickness", 2.0)))
    ]
    assert total[0] == pytest.approx(total[1], rel=0.05)
    tilted = scan_again(phantom, "tilt", step("tilt", 20.0))
    assert abs(tilted.scan.stack.normal_ras[1]) == pytest.approx(np.sin(np.deg2rad(20)))
    turned = scan_again(phantom, "turn", step("turn", 10.0))
    assert not np.array_equal(turned.excess_hu, first.excess_hu)
    again = scan_again(phantom, "noise", step("noise", 40.0))
    assert np.array_equal(again.scan.voxels_hu, noisier.scan.voxels_hu)


@pytest.mark.parametrize("name", RESCANS)
def test_every_change_changes_what_it_says_and_nothing_else(name):
    protocol = Protocol(vendor="Aldan", noise_hu=4.0, fwhm_mm=1.0, thickness_mm=1.0, overshoot=0.2, offset_hu=2.0)
    level = RESCANS[name].levels[-1]
    changed = CHANGES[name](protocol, level)
    different = {key for key in vars(protocol) if getattr(protocol, key) != getattr(changed, key)}
    allowed = {
        "thickness": {"thickness_mm", "spacing_mm", "noise_hu"},
        "noise": {"noise_hu"},
        "blur": {"fwhm_mm"},
        "sharpen": {"overshoot"},
        "offset": {"offset_hu"},
        "pose": set(),
        "tilt": {"tilt_deg"},
        "turn": {"turn_deg"},
        "vendor": {"vendor", "scanner_model", "fwhm_mm", "noise_hu", "grain_mm", "offset_hu", "overshoot"},
    }
    assert different == allowed[name]


def test_another_vendor_keeps_its_place_in_the_range():
    own, other = VENDORS["Aldan"], VENDORS["Dorn"]
    low = Protocol(vendor="Aldan", fwhm_mm=own.soft_fwhm_mm[0], offset_hu=own.offset_hu, noise_hu=4.5)
    changed = as_vendor(low, "Dorn")
    assert changed.fwhm_mm == pytest.approx(other.soft_fwhm_mm[0])
    assert changed.offset_hu == pytest.approx(other.offset_hu)
    assert changed.noise_hu == pytest.approx(4.5 * 6.25 / 4.5)
    assert as_vendor(changed, "Aldan") == replace(low, scanner_model="Aldan 1")
    bone = replace(low, kernel_class="bone", fwhm_mm=own.bone_fwhm_mm[1], noise_hu=20.0)
    changed = as_vendor(bone, "Elmet")
    assert (changed.fwhm_mm, changed.overshoot, changed.noise_hu) == pytest.approx(
        (VENDORS["Elmet"].bone_fwhm_mm[1], 0.60, 20.0)
    )


def test_at_a_level_the_reference_is_the_perfect_readers(original):
    way = step("thickness", 3.0)
    again = at_level(original, "thickness", way, 0)
    assert np.array_equal(again.references[1], read_perfectly(scan_again(original.phantom, "thickness", way)))
    degraded = at_level(replace(original, phantom=None), "thickness", way, 0)
    assert np.array_equal(degraded.scan.stack.origins_ras_mm, again.scan.stack.origins_ras_mm)
    moved = at_level(original, "pose", step("pose", 4.0), 0)
    assert moved.scan.stack is original.scan.stack
    off = np.subtract(moved.case.region_centre_ras_mm, original.case.region_centre_ras_mm)
    assert np.linalg.norm(off) == pytest.approx(4.0)


def test_degrading_is_close_to_scanning_again(original):
    rows = [
        check_method(original, name, DEGRADATIONS[name](level=level), 0)
        for name, level in (("thickness", 3.0), ("blur", 0.5), ("noise", 10.0), ("offset", 20.0))
    ]
    for row in rows:
        assert row.reference_dice is not None
        assert row.scan_dice is not None
        assert row.difference_hu is not None
        assert row.reference_dice > 0.85
        assert row.scan_dice > 0.8
        assert abs(row.difference_hu) < 15
        assert row.degraded_mm3 == pytest.approx(row.again_mm3, rel=0.15)
    checks = summarise_method(rows, IntervalConfig(resamples=10))
    assert [(check.by, check.num_cases) for check in checks] == [(row.by, 1) for row in rows]
    assert checks[0].volume_ratio == pytest.approx(rows[0].degraded_mm3 / rows[0].again_mm3)
    with pytest.raises(ValueError, match="cannot be scanned again"):
        check_method(replace(original, phantom=None), "blur", DEGRADATIONS["blur"](level=1.0), 0)


def test_a_phantom_of_another_seed_or_version_is_refused(cohort, tmp_path):
    case = cohort.cases[0]
    scan = read_scan(cohort.image_path(case))
    about = {"version": "phantom-1", "config": {"patients": 1, "seed": SEED + 1, "first": FIRST}}
    (tmp_path / "truth").mkdir()
    truth = cohort.truth_path(case)
    assert truth is not None
    (tmp_path / case.truth).write_text(truth.read_text())
    moved = replace(cohort, root=tmp_path)
    for wrong in (about, {**about, "version": "phantom-0"}, {"version": "phantom-1", "config": {"patients": "many"}}):
        commit_json(tmp_path / "cohort.json", wrong)
        with pytest.raises(DataError, match="could be made again") as caught:
            find_phantom(moved, case, scan)
        assert caught.value.where == case.case_id
    with pytest.raises(DataError):
        find_phantom(moved, replace(case, truth=""), scan)


def test_the_whole_way_with_a_readers_labels_on_disk(tuned, cohort, tmp_path, sees_hu):
    """Labels on disk are of no account where a perfect reader reads every scan."""
    case = cohort.cases[0]
    scan = read_scan(cohort.image_path(case))
    label = np.zeros(scan.stack.shape, np.uint8)
    label[2, 3:6, 4:9] = 1
    write_label(cohort.root / "other" / "label.nii.gz", label, scan.stack)
    changed = replace(case, label="other/label.nii.gz", split="test")
    write_manifest(cohort.root / "other.csv", replace(cohort, cases=(changed,)))
    prepare(read_manifest(cohort.root / "other.csv"), tmp_path / "prepared", PrepareConfig())
    config = RobustnessConfig(by=("thickness=3", "vendor=4"), rescan=True, intervals=IntervalConfig(resamples=5))
    found = robustness([tuned], Prepared.open(tmp_path / "prepared"), tmp_path / "out", config=config)
    assert [(row.by, row.level) for row in found.rows] == [("as scanned", 0.0), ("thickness", 3.0), ("vendor", 4.0)]
    assert [(check.by, check.level) for check in found.method] == [("thickness", 3.0)]
    assert found.rows[0].original_mm3 != pytest.approx(15 * scan.stack.pixel_mm2 * scan.stack.thickness_mm[0])
    from apatite.study.robustness.write import write_robustness

    page = write_robustness(found, tmp_path / "page").read_text()
    assert "Is degrading like scanning again?" in page
    assert "Dorn" in page
