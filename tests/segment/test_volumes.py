"""Files and a table per scan, on the scan's own grid; a bad scan is named and the others are done."""

import csv
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from apatite.calcium.burden import BurdenCuts
from apatite.calcium.measure import volume_mm3
from apatite.calibrate.calibration import Calibration, calibration_of
from apatite.calibrate.interval import IntervalFitConfig, fit_interval
from apatite.calibrate.threshold import THRESHOLDS, fit_threshold
from apatite.cli import main
from apatite.core.errors import DataError, StorageError
from apatite.io.manifest import read_manifest
from apatite.io.model_package import copy_calibrated
from apatite.io.nifti import read_scan
from apatite.segment.predict import open_predictor
from apatite.segment.volumes import COLUMNS, NO_DOMAIN_OVERLAP, predict_all, scans_of


def some(study, *splits):
    manifest = read_manifest(study.manifest)
    return replace(manifest, cases=manifest.of_split(*splits)[1:4])


def fit_at(threshold):
    """A fit whose threshold is the candidate nearest to this one."""
    at = int(np.argmin(np.abs(THRESHOLDS - threshold)))
    curves = np.where(np.arange(len(THRESHOLDS)) == at, 0.0, 10.0)[None].repeat(5, axis=0)
    return fit_threshold(curves, np.zeros(5), list("abcde"), resamples=10)


@pytest.fixture
def calibrated(tuned, tmp_path):
    """A copy of the tuned model with another threshold in each reading, and frozen groups."""
    cuts = BurdenCuts(definition="deployed", cuts_mm3=(50.0, 100.0, 200.0), none_below_mm3=10.0, source="by hand")
    calibration = Calibration(
        fits={1: {"ungated": fit_at(0.2), "gated": fit_at(0.05)}},
        burden={"gated": cuts},
        num_cases=5,
        domains=["phantom"],
    )
    folder = tmp_path / "models" / "calibrated"
    copy_calibrated(tuned / "model", folder, calibration.to_dict(), ["phantom"], calibration.burden_dict())
    return folder


def test_files_lie_on_the_scans_own_grid(tuned, head_study, sees_hu, tmp_path):
    manifest = some(head_study, "test")
    predictor = open_predictor(tuned)
    made = predict_all(predictor, manifest, tmp_path / "out", "ungated")
    assert made.failures == []
    assert len(made.rows) == 3
    for case in manifest.cases:
        scan = read_scan(manifest.image_path(case))
        found = predictor.predict(scan, case.region_centre_ras_mm)
        image, label, probability = (
            nib.load(path)
            for path in (
                manifest.image_path(case),
                tmp_path / "out" / f"{case.case_id}_label.nii.gz",
                tmp_path / "out" / f"{case.case_id}_prob.nii.gz",
            )
        )
        np.testing.assert_array_equal(label.affine, image.affine)
        np.testing.assert_array_equal(probability.affine, image.affine)
        assert label.shape == probability.shape == image.shape
        assert label.get_data_dtype() == probability.get_data_dtype() == np.uint8
        is_calcium = found.probability[0] >= 0.5
        np.testing.assert_array_equal(np.asarray(label.dataobj).T, is_calcium.astype(np.uint8))
        np.testing.assert_array_equal(np.asarray(probability.dataobj).T, np.rint(255 * found.probability[0]))
        row = next(row for row in made.rows if row["case_id"] == case.case_id)
        assert row["volume_mm3"] == float(f"{volume_mm3(is_calcium, scan.stack):.3g}")
        assert row["volume_mm3"] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [f"{case.case_id}_{part}.nii.gz" for case in manifest.cases for part in ("label", "prob")] + ["volumes.csv"]
    )


def test_the_table(calibrated, head_study, sees_hu, tmp_path):
    manifest = some(head_study, "test")
    predictor = open_predictor(calibrated)
    rows = {
        reading: predict_all(predictor, manifest, tmp_path / reading, reading).rows for reading in ("gated", "ungated")
    }
    for reading, threshold in (("gated", fit_at(0.05).threshold), ("ungated", fit_at(0.2).threshold)):
        with (tmp_path / reading / "volumes.csv").open() as file:
            read = list(csv.DictReader(file))
        assert tuple(read[0]) == COLUMNS
        for row, case in zip(read, manifest.cases, strict=True):
            scan = read_scan(manifest.image_path(case))
            is_calcium = predictor.predict(scan, case.region_centre_ras_mm).probability[0] >= threshold
            if reading == "gated":
                assert (is_calcium & (scan.voxels_hu < 130)).any(), "the gate must have something to do"
                is_calcium &= scan.voxels_hu >= 130
            volume = volume_mm3(is_calcium, scan.stack)
            assert float(row["volume_mm3"]) == pytest.approx(volume, rel=5e-3)
            assert float(row["threshold"]) == pytest.approx(threshold, abs=1e-4)
            assert (row["label"], row["label_name"], row["reading"], row["calibrated"]) == (
                "1", "calcium", reading, "True",
            )  # fmt: skip
            assert row["model_digest"] == predictor.digest[:16]
            group = 0 if volume < 10 else 1 + sum(volume > cut for cut in (50, 100, 200))
            assert row["burden_group"] == (str(group) if reading == "gated" else "")
            assert row["flags"] == ""
    assert rows["gated"] != rows["ungated"]


FACTOR, LARGEST_MM3 = 3.0, 600.0
"""Of the interval on V + 1, for slices of 1.5 to 3.5 mm; the largest volume that it was fitted on."""


@pytest.fixture
def with_intervals(calibrated, tmp_path):
    """The calibrated model again, with intervals for its gated reading: fitted for one thickness group of four."""
    model = open_predictor(calibrated).card
    found = calibration_of(model.calibration, model.burden, ["phantom"])
    assert found is not None
    predicted = np.full(9, LARGEST_MM3)
    fit = fit_interval(
        predicted, (predicted + 1) * FACTOR - 1, list("abcdefghi"), [2.5] * 9, IntervalFitConfig(scale="log")
    )
    wider = replace(found, intervals={"gated": fit})
    folder = tmp_path / "models" / "with-intervals"
    copy_calibrated(calibrated, folder, wider.to_dict(), ["phantom"], wider.burden_dict())
    return folder


def test_limits_and_groups_stand_beside_the_volume(with_intervals, head_study, sees_hu, tmp_path):
    manifest = some(head_study, "test")
    predictor = open_predictor(with_intervals)
    made = predict_all(predictor, manifest, tmp_path / "gated")
    for row, case in zip(made.rows, manifest.cases, strict=True):
        volume, (low, high) = row["volume_mm3"], (row["volume_low_mm3"], row["volume_high_mm3"])
        assert low == pytest.approx(max(0, (volume + 1) / FACTOR - 1), rel=0.02, abs=0.01)
        assert high == pytest.approx((volume + 1) * FACTOR - 1, rel=0.02)
        assert row["interval_coverage"] == 0.9
        groups = [0 if edge < 10 else 1 + sum(edge > cut for cut in (50, 100, 200)) for edge in (low, high)]
        assert [int(group) for group in row["burden_groups"].split()] == list(range(groups[0], groups[1] + 1))
        assert str(row["burden_group"]) in row["burden_groups"].split()
        assert row["flags"] == ("OUT_OF_CAL_RANGE" if volume > LARGEST_MM3 else "")
        header = nib.load(tmp_path / "gated" / f"{case.case_id}_label.nii.gz").header
        note = header["descrip"].tobytes().rstrip(b"\0").decode()
        assert note == f"calcium {volume:g} mm3, 90% interval {low:g} to {high:g}"
    assert len({row["flags"] for row in made.rows}) == 2
    assert len({row["burden_groups"] for row in made.rows}) > 1
    # The other reading was given no interval: it says nothing, and flags nothing.
    for row in predict_all(predictor, manifest, tmp_path / "ungated", "ungated").rows:
        assert (row["volume_low_mm3"], row["volume_high_mm3"], row["interval_coverage"]) == ("", "", "")
        assert (row["burden_groups"], row["flags"]) == ("", "")


def test_no_limits_where_the_calibration_saw_nothing_alike(with_intervals, head_study, sees_hu, tmp_path):
    manifest = some(head_study, "test")
    case = manifest.cases[0]
    unlike = {
        "thick": (replace(case, slice_thickness_mm=8.0), "NO_INTERVAL OUT_OF_CAL_RANGE"),
        "real": (replace(case, domain="real"), "DOMAIN NO_INTERVAL"),
        "everywhere": (replace(case, region_centre_ras_mm=None), "NO_INTERVAL"),
    }
    for name, (changed, flags) in unlike.items():
        made = predict_all(open_predictor(with_intervals), replace(manifest, cases=(changed,)), tmp_path / name)
        (row,) = made.rows
        assert (name, row["volume_low_mm3"], row["burden_groups"], row["flags"]) == (name, "", "", flags)
    # Without a stated thickness the distance between slices stands in.
    unstated = replace(manifest, cases=(replace(case, slice_thickness_mm=None),))
    (row,) = predict_all(open_predictor(with_intervals), unstated, tmp_path / "unstated").rows
    assert row["interval_coverage"] == 0.9


def test_slices_outside_the_validated_range_are_flagged(tuned, head_study, sees_hu, tmp_path):
    manifest = some(head_study, "test")
    predictor = open_predictor(tuned)
    predictor.card = replace(predictor.card, validated={"ranges": {"thickness": {"low": 1.0, "high": 2.6}}})
    rows = predict_all(predictor, manifest, tmp_path / "out").rows
    assert {row["flags"] for row in rows} == {"", "OUT_OF_VALIDATED_RANGE"}
    for row, case in zip(rows, manifest.cases, strict=True):
        assert (row["flags"] == "") == (case.slice_thickness_mm == 2.5)


def test_a_domain_it_was_not_calibrated_on_is_flagged(calibrated, tuned, head_study, sees_hu, tmp_path):
    manifest = some(head_study, "test")
    real = replace(manifest, cases=(replace(manifest.cases[0], domain="real"), manifest.cases[1]))
    for model in (calibrated, tuned):
        rows = predict_all(open_predictor(model), real, tmp_path / model.name).rows
        assert [row["flags"] for row in rows] == [NO_DOMAIN_OVERLAP, ""]


def test_organs_are_not_gated(tuned, body_study, sees_hu, tmp_path):
    """Labels beside calcium keep what lies below 130 HU; a model without calcium has one reading only."""
    predictor = open_predictor(tuned)
    scan_of = some(body_study, "test")
    predictor.card = replace(predictor.card, label_names={1: "liver"})
    predictor.predict = lambda scan, centre=None: NativePredictionOf(scan, (1,))
    rows = predict_all(predictor, scan_of, tmp_path / "organ", "gated").rows
    assert {(row["reading"], row["burden_group"]) for row in rows} == {("ungated", "")}
    predictor.card = replace(predictor.card, label_names={1: "calcium", 2: "liver"})
    predictor.predict = lambda scan, centre=None: NativePredictionOf(scan, (1, 2))
    predict_all(predictor, scan_of, tmp_path / "both", "gated")
    case = scan_of.cases[0]
    voxels = read_scan(scan_of.image_path(case)).voxels_hu
    label = np.asarray(nib.load(tmp_path / "both" / f"{case.case_id}_label.nii.gz").dataobj).T
    half = voxels.shape[2] // 2
    np.testing.assert_array_equal(label[..., :half], np.where(voxels[..., :half] >= 130, 1, 0))
    assert (label[..., half:] == 2).all()
    assert (voxels[..., half:] < 130).any()


def NativePredictionOf(scan, values):  # noqa: N802 - stands in for the class
    """Calcium in the left half of the image, the next label in the other."""
    from apatite.segment.predict import NativePrediction

    shape = scan.stack.shape
    probability = np.zeros((len(values), *shape), np.float32)
    probability[0, ..., : shape[2] // 2] = 0.9
    probability[-1, ..., shape[2] // 2 :] = 0.9
    return NativePrediction(probability=probability, is_counted=np.ones(shape, bool), label_values=values)


def test_bad_scans_are_named_and_the_others_are_done(tuned, head_study, sees_hu, tmp_path, capsys):
    manifest = read_manifest(head_study.manifest)
    scans = tmp_path / "scans"
    scans.mkdir()
    for case in manifest.cases[:3]:
        shutil.copy(manifest.image_path(case), scans)
    (scans / "head-01.nii.gz").write_bytes(manifest.image_path(manifest.cases[1]).read_bytes()[:2000])
    affine = nib.load(manifest.image_path(manifest.cases[2])).affine
    nib.save(nib.Nifti1Image(np.full((6, 5, 4), np.nan, np.float32), affine), scans / "head-02.nii.gz")
    code = main.run(["predict", "--json", "-m", str(tuned), "-i", str(scans), "-o", str(tmp_path / "out")])
    values = json.loads(capsys.readouterr().out)
    assert code == 8
    assert {failure["where"]: failure["code"] for failure in values["failures"]} == {
        "head-01": "TRUNCATED",
        "head-02": "NONFINITE",
    }
    assert [row["case_id"] for row in values["rows"]] == ["head-00"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "head-00_label.nii.gz",
        "head-00_prob.nii.gz",
        "volumes.csv",
    ]
    (scans / "head-00.nii.gz").unlink()
    code = main.run(["predict", "--json", "-m", str(tuned), "-i", str(scans), "-o", str(tmp_path / "none")])
    values = json.loads(capsys.readouterr().out)
    assert (code, values["code"], values["where"]) == (3, "TRUNCATED", "head-01")
    assert not (tmp_path / "none").exists()


def test_a_full_disk_stops_the_batch(tuned, head_study, sees_hu, tmp_path, monkeypatch):
    def full(*_):
        raise StorageError("cannot write", code="NO_SPACE")

    monkeypatch.setattr("apatite.segment.volumes.write_label", full)
    with pytest.raises(StorageError):
        predict_all(open_predictor(tuned), some(head_study, "test"), tmp_path / "out")


def test_what_a_path_names(head_study, tmp_path):
    assert len(scans_of(head_study.manifest).cases) == 24
    for name in ("Scan A (1).nii.gz", "_b.nii", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    found = scans_of(tmp_path, (1.0, 2.0, 3.0))
    assert {case.case_id: case.image for case in found.cases} == {"scan-a-1-": "Scan A (1).nii.gz", "b": "_b.nii"}
    assert {case.region_centre_ras_mm for case in found.cases} == {(1.0, 2.0, 3.0)}
    assert [case.case_id for case in scans_of(tmp_path / "_b.nii").cases] == ["b"]
    for missing in (tmp_path / "none", tmp_path / "none.nii.gz"):
        with pytest.raises(DataError) as caught:
            scans_of(missing)
        assert (caught.value.code, caught.value.where) == ("NO_INPUT", str(missing))


def test_a_label_name_is_no_formula(tuned, head_study, sees_hu, tmp_path):
    predictor = open_predictor(tuned)
    predictor.card = replace(predictor.card, label_names={1: "=1+1"})
    predict_all(predictor, some(head_study, "test"), tmp_path / "out")
    assert ",'=1+1," in (tmp_path / "out" / "volumes.csv").read_text()
