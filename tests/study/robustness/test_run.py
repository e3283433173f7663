"""From two models and a split to curves, a page, and a model that knows its range; and on after a stop."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from apatite.calcium.measure import volume_mm3
from apatite.cli.main import run
from apatite.core.errors import ConfigError, DataError, ModelError
from apatite.ct.degrade.degradation import degrade
from apatite.ct.degrade.texture import Offset
from apatite.io.images import read_image
from apatite.io.manifest import read_manifest
from apatite.io.model_package import copy_calibrated, read_summary
from apatite.io.nifti import read_label
from apatite.io.run_folder import RunFolder
from apatite.segment.model import Segmenter
from apatite.segment.predict import open_predictor
from apatite.segment.validity import outside_validated
from apatite.study.intervals import IntervalConfig
from apatite.study.robustness import run as running
from apatite.study.robustness.config import Criteria, RobustnessConfig
from apatite.study.robustness.rows import AS_IS
from apatite.study.robustness.run import robustness
from apatite.study.robustness.write import write_robustness, write_validated

QUICK = RobustnessConfig(
    by=("thickness=4,6", "offset=-15,15", "pose=4"),
    thin_mm=3.0,
    criteria=Criteria(least_positive=3),
    intervals=IntervalConfig(resamples=20),
)


@pytest.fixture(scope="module")
def measured(tuned, head_study, tmp_path_factory):
    """What was found, and the folder of its rows; the model says what the HU say, as in `sees_hu`."""
    out = tmp_path_factory.mktemp("robustness") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "probability", lambda _, image_hu: torch.sigmoid((image_hu - 300) / 80))
        return robustness([tuned], head_study.open(), out, config=QUICK), out


@pytest.fixture
def found(measured):
    return measured[0]


@pytest.fixture
def out(measured, tmp_path):
    """A copy of the folder, to do what one likes with."""
    shutil.copytree(measured[1], tmp_path / "out")
    return tmp_path / "out"


def rows_of(found, by, level=0.0):
    return {row.case_id: row for row in found.rows if (row.by, row.level) == (by, level)}


def test_the_scan_as_it_is_by_hand(found, tuned, head_study, sees_hu):
    manifest = read_manifest(head_study.manifest)
    predictor = open_predictor(tuned)
    rows = rows_of(found, AS_IS)
    assert list(rows) == [case.case_id for case in manifest.of_split("test")]
    for case in manifest.of_split("test"):
        scan = read_image(manifest.image_path(case))
        label = read_label(manifest.root / case.label, scan.stack)
        said = predictor.predict_case(case, scan)
        is_calcium = (said.probability[0] >= 0.5) & said.is_counted & (scan.voxels_hu >= 130)
        is_true = (label == 1) & said.is_counted
        row = rows[case.case_id]
        assert (row.true_positive, row.false_positive, row.false_negative) == (
            np.count_nonzero(is_calcium & is_true),
            np.count_nonzero(is_calcium & ~is_true),
            np.count_nonzero(is_true & ~is_calcium),
        )
        assert row.predicted_mm3 == pytest.approx(volume_mm3(is_calcium, scan.stack))
        assert row.original_mm3 == row.reference_mm3 == pytest.approx(volume_mm3(is_true, scan.stack))
        assert (row.patient_id, row.vendor, row.level) == (case.patient_id, case.vendor, 0)


def test_an_offset_by_hand(found, tuned, head_study, sees_hu):
    manifest = read_manifest(head_study.manifest)
    case = manifest.of_split("test")[2]
    scan = read_image(manifest.image_path(case))
    moved = degrade(scan, Offset(level=15.0), case.case_id)
    said = open_predictor(tuned).predict_case(case, moved)
    is_calcium = (said.probability[0] >= 0.5) & said.is_counted & (moved.voxels_hu >= 130)
    row = rows_of(found, "offset", 15.0)[case.case_id]
    assert row.predicted_mm3 == pytest.approx(volume_mm3(is_calcium, scan.stack))
    before = rows_of(found, AS_IS)[case.case_id]
    assert row.original_mm3 == before.original_mm3
    assert row.predicted_mm3 > before.predicted_mm3
    assert row.reference_mm3 >= before.reference_mm3
    lower = rows_of(found, "offset", -15.0)[case.case_id]
    assert lower.predicted_mm3 < before.predicted_mm3
    assert lower.reference_mm3 < before.reference_mm3


def test_what_a_region_off_its_place_does_not_see_is_missed(found):
    before, after = rows_of(found, AS_IS), rows_of(found, "pose", 4.0)
    for case_id, row in after.items():
        # The same yardstick: the region of the scan as it is.
        assert row.reference_mm3 == pytest.approx(before[case_id].reference_mm3)
        assert row.true_positive + row.false_negative == (
            before[case_id].true_positive + before[case_id].false_negative
        )
    assert any(row.true_positive < before[case_id].true_positive for case_id, row in after.items())


def test_cases_whose_slices_are_too_thick_are_counted(found, tuned, head_study, tmp_path, sees_hu):
    assert len(rows_of(found, "thickness", 6.0)) == 7
    assert found.left_out == {"thickness": 0, "offset": 0, "pose": 0}
    thin = robustness(
        [tuned], head_study.open(), tmp_path / "thin", config=replace(QUICK, thin_mm=2.5, by=("thickness=6",))
    )
    chosen = rows_of(thin, "thickness", 6.0)
    assert set(chosen) == {f"head-{number}" for number in range(17, 23, 2)}
    assert thin.left_out == {"thickness": 4}
    (curve,) = thin.curves
    assert (curve.as_is.num_cases, curve.thickness_mm) == (3, (2.5, 2.5))


def test_a_killed_measurement_goes_on_and_ends_the_same(found, tuned, head_study, tmp_path, monkeypatch, sees_hu):
    out = tmp_path / "killed"
    whole, calls = running.judge_case, []

    def dies(contestant, original, ladders, config):
        calls.append(original.case.case_id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(contestant, original, ladders, config)

    monkeypatch.setattr(running, "judge_case", dies)
    with pytest.raises(KeyboardInterrupt):
        robustness([tuned], head_study.open(), out, config=QUICK)
    assert len(list((out / "rows" / "tuned").glob("*.json"))) == 3
    again = robustness([tuned], head_study.open(), out, config=QUICK)
    assert again.rows == found.rows
    assert calls == [f"head-{number}" for number in (16, 17, 18, 19, 19, 20, 21, 22)]
    # Nothing is left to do: another interval is computed from the same rows.
    third = robustness([tuned], head_study.open(), out, config=replace(QUICK, intervals=IntervalConfig(resamples=9)))
    assert (len(calls), third.rows) == (8, found.rows)


def test_rows_of_another_run_are_never_mixed(out, tuned, head_study):
    for changed in (replace(QUICK, seed=1), replace(QUICK, by=("offset=15",)), replace(QUICK, reading="ungated")):
        with pytest.raises(DataError, match="other models, data or settings"):
            robustness([tuned], head_study.open(), out, config=changed)
    (out / "rows" / "tuned" / "head-16.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        robustness([tuned], head_study.open(), out, config=QUICK)


def test_every_look_is_written_down(out):
    looks = RunFolder(path=out).read_looks()
    assert [(look["split"], look["detail"].split()[:2]) for look in looks] == [("test", ["robustness", "tuned"])]


def test_files_and_the_card(found, tuned, tmp_path):
    folder = tmp_path / "page"
    page = write_robustness(found, folder).read_text()
    assert all(word in page for word in ("Where it holds", "Thickness", "Offset", "Pose", "phantom"))
    rows = list(csv.DictReader((folder / "rows.csv").read_text().splitlines()))
    assert len(rows) == len(found.rows) == 7 * (1 + 2 + 2 + 1)
    summary = json.loads((folder / "summary.json").read_text())
    assert [curve["by"] for curve in summary["curves"]] == ["thickness", "offset", "pose"]
    write_validated(found, tuned, tmp_path / "validated")
    card, original = read_summary(tmp_path / "validated").card, read_summary(tuned / "model").card
    assert replace(card, validated=None) == original
    assert card.validated is not None
    assert set(card.validated["ranges"]) == {"thickness", "offset", "pose"}
    assert card.validated["model_digest"] == open_predictor(tuned).digest == summary["digests"]["tuned"]
    assert card.validated["reading"] == "uncalibrated"
    assert outside_validated(card, thickness_mm=40.0) == ("thickness",)


def test_pictures_and_models_side_by_side(tuned, head_study, tmp_path, sees_hu):
    shutil.copytree(tuned / "model", tmp_path / "other")
    config = replace(QUICK, by=("offset=15",))
    found = robustness([tuned, tmp_path / "other"], head_study.open(), tmp_path / "two", config=config)
    assert found.models == ("tuned", "other")
    assert [curve.model for curve in found.curves] == ["tuned", "other"]
    one, other = ([(row.case_id, row.dice) for row in found.rows if row.model == name] for name in found.models)
    assert repr(one) == repr(other)
    with pytest.raises(ConfigError, match="one card"):
        write_validated(found, tuned, tmp_path / "card")


def test_what_cannot_be_measured_is_refused(tuned, head_study, body_study, tmp_path):
    with pytest.raises(ConfigError, match="left organ"):
        robustness([tuned], body_study.open(), tmp_path / "a", config=replace(QUICK, by=("offset",)))
    with pytest.raises(ConfigError, match="no region"):
        robustness([tuned], body_study.open(), tmp_path / "b", config=QUICK)
    with pytest.raises(DataError, match="could be made again"):
        robustness([tuned], head_study.open(), tmp_path / "c", config=replace(QUICK, rescan=True))
    with pytest.raises(ModelError):
        robustness([head_study.prepared], head_study.open(), tmp_path / "d", config=QUICK)
    with pytest.raises(ConfigError, match="no model"):
        robustness([], head_study.open(), tmp_path / "e", config=QUICK)
    assert not (tmp_path / "a").exists()


def test_the_verb(tuned, head_study, tmp_path, sees_hu, capsys):
    arguments = ["robustness", "-m", str(tuned), "-d", str(head_study.prepared), "-o", str(tmp_path / "out")]
    levels = ["--by", "offset=10", "blur=0.5", "--least-positive", "3", "--resamples", "20", "--json"]
    copy = ["--write-model", str(tmp_path / "validated")]
    assert run([*arguments, *levels, *copy]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["config"]["by"] == ["offset=10", "blur=0.5"]
    assert read_summary(tmp_path / "validated").card.validated is not None
    # The copy is there: found before anything is predicted.
    assert run([*arguments, *levels, *copy]) == 3
    assert run([*arguments, "--by", "offset=0", "--json"]) == 2
    assert "no degradation" in capsys.readouterr().out


def test_a_calibrated_model_is_read_both_ways_and_its_card_holds_the_calibrated_range(
    tuned, head_study, tmp_path, sees_hu
):
    from apatite.study.calibrate import CalibrateConfig, calibrate

    manifest = read_manifest(head_study.manifest)
    calibration = calibrate(
        open_predictor(tuned), manifest, manifest.of_split("development"), CalibrateConfig(resamples=10)
    )
    copy_calibrated(tuned / "model", tmp_path / "better", calibration.to_dict(), ["phantom"], calibration.burden_dict())
    config = replace(QUICK, by=("offset=15",))
    found = robustness([tmp_path / "better"], head_study.open(), tmp_path / "out", config=config)
    assert found.models == ("better", "better + calibrated")
    write_validated(found, tmp_path / "better", tmp_path / "card")
    card = read_summary(tmp_path / "card").card
    assert card.validated is not None
    assert card.validated["reading"] == "calibrated"
    assert card.calibration == read_summary(tmp_path / "better").card.calibration
