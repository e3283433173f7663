"""Whoever made the predictions, they reach the original slices as those of every other model do."""

import json
import shutil

import numpy as np
import pytest

from apatite.core.commit import commit_json
from apatite.core.errors import ConfigError, DataError, ModelError
from apatite.core.volume import Volume
from apatite.ct.region import carry_back, is_inside_region
from apatite.io.nifti import read_scan, viewer_grid
from apatite.io.nifti_file import write_nifti
from apatite.study.contestants import open_contestant
from apatite.study.judge import judge
from apatite.study.nnunet.judging import adopt, mean_dice
from apatite.study.nnunet.results import NnunetPredictions, is_nnunet, read_results


def lopsided(row, shape):
    """Two classes; the second is likely in one corner that no swap of axes leaves in its place."""
    depth, height, width = np.meshgrid(*(np.linspace(0, 1, edge) for edge in shape), indexing="ij")
    foreground = (0.9 * depth**2 * (1 - 0.7 * height) * (1 - width) + 0.01 * row).clip(0, 1).astype(np.float32)
    return np.stack([1 - foreground, foreground])


def perfect(prepared):
    """Fractions of the annotation, as probabilities."""

    def fill(row, shape):
        foreground = np.array(prepared.fractions[row]).astype(np.float32) / 255
        return np.concatenate([1 - foreground.sum(axis=0, keepdims=True), foreground])

    return fill


@pytest.fixture
def prepared(head_study):
    return head_study.open()


def rows_of(prepared, *splits):
    return prepared.case_index(*splits).tolist()


def test_regions_are_carried_back_as_the_vit_s_are(prepared, write_results):
    rows = rows_of(prepared, "test")
    found = open_contestant(write_results(prepared, rows, lopsided), "nnU-Net")
    assert (found.name, found.calibration, dict(found.label_names)) == ("nnU-Net", None, {1: "calcium"})
    for row in rows:
        case, grid = prepared.cases[row], prepared.grid(row)
        scan = read_scan(prepared.manifest.image_path(case))
        on_grid = lopsided(row, grid.shape)[1]
        is_inside = is_inside_region(scan.stack, grid)
        prediction = found.predictor.predict_case(case, scan)
        np.testing.assert_array_equal(prediction.is_counted, is_inside)
        expected = carry_back(Volume(voxels=on_grid, grid=grid), scan.stack) * is_inside
        np.testing.assert_array_equal(prediction.probability, expected[None])
        assert prediction.label_values == (1,)


def test_whole_volumes_are_counted_everywhere(body_study, write_results):
    prepared = body_study.open()
    rows = rows_of(prepared, "test")

    def organs(row, shape):
        first = lopsided(row, shape)[1] * 0.5
        return np.stack([1 - 1.5 * first, first, 0.5 * first])

    found = open_contestant(write_results(prepared, rows, organs), "nnU-Net")
    case, grid = prepared.cases[rows[0]], prepared.grid(rows[0])
    scan = read_scan(prepared.manifest.image_path(case))
    prediction = found.predictor.predict_case(case, scan)
    assert prediction.is_counted.all()
    assert prediction.label_values == (2, 5)
    for plane, number in zip(prediction.probability, (1, 2), strict=True):
        on_grid = np.ascontiguousarray(organs(rows[0], grid.shape)[number]).astype(np.float32)
        np.testing.assert_allclose(plane, carry_back(Volume(voxels=on_grid, grid=grid), scan.stack), atol=1e-6)


def test_folders_as_nnunet_leaves_them(prepared, write_results, tmp_path):
    """Predictions, `validation`, a fold, and a trainer's folder with several folds are all understood."""
    rows = rows_of(prepared, "development")
    flat = write_results(prepared, rows, lopsided)
    trainer = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for fold, part in enumerate((rows[:3], rows[3:])):
        (trainer / f"fold_{fold}" / "validation").mkdir(parents=True)
        for row in part:
            for ending in (".nii.gz", ".npz"):
                name = f"{prepared.cases[row].case_id}{ending}"
                shutil.copy(flat / name, trainer / f"fold_{fold}" / "validation" / name)
    for name in ("dataset.json", "plans.json"):
        shutil.copy(flat / name, trainer / name)
    for folder, count in ((flat, 7), (trainer, 7), (trainer / "fold_0", 3), (trainer / "fold_1" / "validation", 4)):
        assert is_nnunet(folder)
        assert len(read_results(folder).files) == count
    shutil.copy(flat / f"{prepared.cases[rows[0]].case_id}.nii.gz", trainer / "fold_1" / "validation")
    with pytest.raises(DataError) as caught:
        read_results(trainer)
    assert (caught.value.code, caught.value.where) == ("CASES_DIFFER", prepared.cases[rows[0]].case_id)


def test_the_labels_to_learn_from_are_no_predictions(prepared, write_results):
    folder = write_results(prepared, rows_of(prepared, "test"), lopsided)
    (folder / "plans.json").unlink()
    assert not is_nnunet(folder)
    with pytest.raises(DataError):
        read_results(folder)


def test_the_digest_tells_predictions_apart(prepared, write_results):
    rows = rows_of(prepared, "test")
    one, same = (write_results(prepared, rows, lopsided, name=name) for name in ("one", "same"))
    other = write_results(prepared, rows, lambda row, shape: lopsided(row + 1, shape), name="other")
    digests = [open_contestant(folder, "x").digest for folder in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_cases_that_were_not_predicted_are_named(prepared, write_results):
    rows = rows_of(prepared, "test")
    predictor = NnunetPredictions(read_results(write_results(prepared, rows[:4], lopsided)))
    cases = [prepared.cases[row] for row in rows]
    with pytest.raises(DataError) as caught:
        predictor.refuse_missing(cases)
    assert caught.value.code == "MISSING_FILE"
    assert all(case.case_id in caught.value.what for case in cases[4:])
    assert not any(case.case_id in caught.value.what for case in cases[:4])
    scan = read_scan(prepared.manifest.image_path(cases[5]))
    with pytest.raises(DataError, match=cases[5].case_id):
        predictor.predict_case(cases[5], scan)


def test_a_prediction_of_another_region_is_refused(prepared, write_results):
    rows = rows_of(prepared, "test")[:2]
    folder = write_results(prepared, rows, lopsided)
    first, second = (prepared.cases[row].case_id for row in rows)
    shutil.copy(folder / f"{second}.nii.gz", folder / f"{first}.nii.gz")
    case = prepared.cases[rows[0]]
    with pytest.raises(DataError) as caught:
        open_contestant(folder, "x").predictor.predict_case(case, read_scan(prepared.manifest.image_path(case)))
    assert (caught.value.code, caught.value.where) == ("GRID_MISMATCH", first)


def test_descriptions_that_cannot_be_understood(prepared, write_results, tmp_path):
    folder = write_results(prepared, rows_of(prepared, "test")[:1], lopsided)
    for content in ('{"labels": {"background": 0, "organs": [1, 2]}}', "[]", "{", '{"apatite": {"kind": "region"}}'):
        (folder / "dataset.json").write_text(content)
        with pytest.raises(ModelError) as caught:
            read_results(folder)
        assert caught.value.code == "MODEL_VERSION"
    with pytest.raises(DataError):
        read_results(tmp_path)
    commit_json(tmp_path / "empty" / "nnunet.json", {"predictions": ["none"], "apatite": {}})
    with pytest.raises(DataError) as empty:
        read_results(tmp_path / "empty")
    assert empty.value.code == "NO_CASES"


def test_predictions_of_others_on_the_scan_s_own_slices(prepared, write_results, tmp_path):
    """A network that saw whole scans is judged in the region, on the voxels that every other model is judged on."""
    rows = [row for row in rows_of(prepared, "development", "test") if row % 6]
    folder = write_results(prepared, [], lopsided, is_ours=False)
    for row in rows:
        case = prepared.cases[row]
        stack = read_scan(prepared.manifest.image_path(case)).stack
        probabilities = lopsided(row, stack.shape)
        write_nifti(folder / f"{case.case_id}.nii.gz", np.zeros(stack.shape, np.uint8), viewer_grid(stack).ijk_to_ras)
        np.savez(folder / f"{case.case_id}.npz", probabilities=probabilities)
    run = tmp_path / "adopted"
    adopt(folder, prepared, run, is_calibrated=False)
    for row in rows:
        case = prepared.cases[row]
        scan = read_scan(prepared.manifest.image_path(case))
        is_inside = is_inside_region(scan.stack, prepared.grid(row))
        prediction = open_contestant(run, "x").predictor.predict_case(case, scan)
        np.testing.assert_array_equal(prediction.is_counted, is_inside)
        np.testing.assert_allclose(prediction.probability[0], lopsided(row, scan.stack.shape)[1] * is_inside)


def test_a_finished_folder_is_calibrated_like_any_other_model(prepared, write_results, tmp_path):
    rows = rows_of(prepared, "development", "test")
    # Half as sure as it should be: at 0.5 it finds nothing, at its own threshold nearly all.
    folder = write_results(prepared, rows, lambda row, shape: half(prepared, row))
    run = tmp_path / "adopted"
    found = adopt(folder, prepared, run)
    assert found["notes"] == []
    assert found["dice"] < 0.05
    assert found["dice_calibrated"] > 0.6
    again = open_contestant(run, "nnU-Net")
    assert again.calibration is not None
    assert 0.1 < again.calibration.threshold(1, "ungated") < 0.45
    cases = tuple(prepared.cases[row] for row in rows_of(prepared, "test"))
    outcomes = judge("nnU-Net", again.predictor, again.calibration, prepared.manifest, cases)
    assert set(outcomes) == {"nnU-Net", "nnU-Net + calibrated"}
    assert (mean_dice(outcomes["nnU-Net + calibrated"]) or 0) > 0.6
    # What was there is not touched, and the run is not made twice.
    assert sorted(path.suffix for path in folder.iterdir()).count(".json") == 2
    assert json.loads((run / "nnunet.json").read_text())["predictions"] == [str(folder.resolve())]
    with pytest.raises(ConfigError):
        adopt(folder, prepared, run)


def half(prepared, row):
    foreground = 0.45 * np.array(prepared.fractions[row]).astype(np.float32) / 255
    return np.concatenate([1 - foreground, foreground])


def test_a_folder_of_other_labels_is_refused(prepared, body_study, write_results, tmp_path):
    folder = write_results(prepared, rows_of(prepared, "development"), lopsided)
    with pytest.raises(ConfigError, match="labels"):
        adopt(folder, body_study.open(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_cases_leave_it_at_one_half_and_say_so(prepared, write_results, tmp_path, monkeypatch):
    import apatite.study.nnunet.judging as judging

    rows = rows_of(prepared, "development")[:3]
    monkeypatch.setattr(judging, "_development", lambda prepared: tuple(prepared.cases[row] for row in rows))
    found = adopt(write_results(prepared, rows, perfect(prepared)), prepared, tmp_path / "out")
    assert found["notes"][0].startswith("not calibrated: ")
    assert (found["calibration"], found["dice_calibrated"]) == (None, None)
    assert found["dice"] > 0.5
    assert open_contestant(tmp_path / "out", "x").calibration is None
