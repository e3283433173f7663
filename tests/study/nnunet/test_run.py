"""A run from a prepared folder to calibrated predictions, with a stand-in for nnU-Net; each stage is done once."""

import json
from dataclasses import replace

import pytest

from apatite.batch.lease import hold
from apatite.cli import main
from apatite.core.errors import BusyError, ConfigError, DataError, TrainingError
from apatite.io.run_folder import RunFolder
from apatite.study.contestants import open_contestant
from apatite.study.intervals import IntervalConfig
from apatite.study.nnunet import run
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.nnunet.results import NnunetPredictions
from apatite.study.nnunet.run import NnunetRun, run_nnunet
from apatite.study.run import evaluate_models

CONFIG = NnunetConfig(minutes=2.0, workers=0)


@pytest.fixture
def prepared(head_study):
    return head_study.open()


def verbs(calls):
    return [verb for verb, _ in calls]


def test_from_a_prepared_folder_to_a_calibrated_contestant(prepared, stand_in, calls, tmp_path):
    out, seen = tmp_path / "nnU-Net", []

    def watch(items, stage, total=None):
        count = 0
        for item in items:
            count += 1
            yield item
        seen.append((stage, total, count))

    made = run_nnunet(CONFIG, prepared, out, watch, python=stand_in)
    asked = calls()
    assert verbs(asked) == ["versions", "plan", "train", "predict", "predict"]
    assert asked[2][1]["budget_s"] == 120.0
    # Nobody augments beside the training, but nnU-Net cannot plan without a process.
    assert [settings["workers"] > 0 for _, settings in asked[1:3]] == [True, False]
    assert [settings["cases"] for _, settings in asked[3:]] == [
        [prepared.cases[row].case_id for row in prepared.case_index(split)] for split in ("development", "test")
    ]
    (length,) = made.lengths
    assert (length.epochs, length.iterations, length.minutes) == (5, 3 + 10 + 11 + 12 + 13 + 14, 2.0)
    assert length.pseudo_dice == pytest.approx(0.4)
    assert length.dice is not None and length.dice_calibrated is not None
    assert length.dice < 0.05 < length.dice_calibrated
    assert "not known" in made.verdict
    # Every stage with a known number of steps is shown to its end.
    assert all(total in (None, count) for _, total, count in seen)
    assert ("nnU-Net ×1: training", 5, 5) in seen
    for folder in (out, out / "x1"):
        found = open_contestant(folder, "nnU-Net")
        assert found.calibration is not None
        assert dict(found.label_names) == {1: "calcium"}
        assert isinstance(found.predictor, NnunetPredictions)
        found.predictor.refuse_missing([prepared.cases[row] for row in prepared.case_index("development", "test")])
    rows = [json.loads(line) for line in (out / "x1" / "curve.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows] == ["schedule", *["epoch"] * 5, "trained"]
    assert json.loads((out / "manifest.json").read_text())["nnunet"]["nnunetv2"] == "2.8.1"
    page = evaluate_models([out], prepared, tmp_path / "page", intervals=IntervalConfig(resamples=50))
    assert page.values["apatite"]["models"] == ["nnU-Net", "nnU-Net + calibrated"]
    # The look at the test split is written down beside the run, too.
    assert [look["split"] for look in RunFolder(path=out).read_looks()] == ["test"]


def test_what_is_done_is_not_done_again(prepared, stand_in, calls, tmp_path, monkeypatch):
    judged = {"dice": 0.5, "dice_calibrated": None, "calibration": None, "notes": []}
    monkeypatch.setattr(run, "judge_length", lambda *_, **__: judged)
    settings = {"python": stand_in, "is_calibrated": False}
    first = run_nnunet(CONFIG, prepared, tmp_path / "run", **settings)
    calls()
    again = run_nnunet(CONFIG, prepared, tmp_path / "run", **settings)
    assert verbs(calls()) == ["versions"]
    assert again.lengths == first.lengths
    # A longer training may be asked for later; the shorter one stays.
    more = run_nnunet(CONFIG, prepared, tmp_path / "run", **settings, multiples=(1, 2))
    asked = calls()
    assert verbs(asked) == ["versions", "train", "predict", "predict"]
    assert asked[1][1]["budget_s"] == 240.0
    assert [row.multiple for row in more.lengths] == [1, 2]
    assert more.lengths[0] == first.lengths[0]


def test_other_settings_and_other_data_are_refused(prepared, stand_in, tmp_path, monkeypatch):
    nothing = NnunetRun(folder=tmp_path, lengths=(), stages={}, notes=())
    monkeypatch.setattr(run, "_all_stages", lambda *_, **__: nothing)
    run_nnunet(CONFIG, prepared, tmp_path / "run", python=stand_in, is_calibrated=False)
    with pytest.raises(ConfigError, match="minutes"):
        run_nnunet(replace(CONFIG, minutes=3.0), prepared, tmp_path / "run", python=stand_in)
    with pytest.raises(ConfigError, match="data"):
        run_nnunet(CONFIG, replace(prepared, about={"manifest_sha256": "0" * 64}), tmp_path / "run", python=stand_in)


def test_longer_trainings_are_left_out_once_dice_is_flat(prepared, stand_in, calls, tmp_path, monkeypatch):
    dice = iter([0.5, 0.8, 0.805, 0.9])
    judged = {"dice_calibrated": None, "calibration": None, "notes": []}
    monkeypatch.setattr(run, "predict", lambda *_: {})
    monkeypatch.setattr(run, "judge_length", lambda *_, **__: {"dice": next(dice), **judged})
    made = run_nnunet(CONFIG, prepared, tmp_path / "run", python=stand_in, multiples=(1, 2, 4))
    assert [row.dice for row in made.lengths] == [0.5, 0.8, 0.805]
    assert made.verdict.startswith("Flat: from ×2 to ×4")
    calls()
    made = run_nnunet(CONFIG, prepared, tmp_path / "run", python=stand_in, multiples=(1, 2, 4, 8))
    assert verbs(calls()) == ["versions"]
    assert [row.multiple for row in made.lengths] == [1, 2, 4]
    assert made.notes[0].startswith("×8 was not trained: Flat")
    # The longest one is what the run stands for.
    assert json.loads((tmp_path / "run" / "nnunet.json").read_text())["multiple"] == 4
    assert json.loads((tmp_path / "run" / "lengths.json").read_text())["verdict"] == made.verdict


def test_an_interrupted_training_goes_on_where_it_was_saved(prepared, stand_in, calls, tmp_path):
    (stand_in.parent / "breaks").touch()
    with pytest.raises(TrainingError) as caught:
        run_nnunet(CONFIG, prepared, tmp_path / "run", python=stand_in)
    assert caught.value.code == "NNUNET_FAILED"
    assert "out of memory, so to say" in caught.value.what
    assert caught.value.where == str(tmp_path / "run" / "x1" / "train.log")
    (stand_in.parent / "breaks").unlink()
    calls()
    made = run_nnunet(CONFIG, prepared, tmp_path / "run", python=stand_in, is_calibrated=False)
    asked = calls()
    # Planning is done; of the five epochs two were saved.
    assert verbs(asked) == ["versions", "train", "predict", "predict"]
    assert asked[1][1]["num_epochs"] == 5
    rows = [json.loads(line) for line in (tmp_path / "run" / "x1" / "curve.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["event"] == "epoch"] == [0, 1, 2, 3, 4]
    assert made.lengths[0].iterations == 3 + 10 + 11 + 12 + 13 + 14


def test_a_folder_that_is_held_is_left_alone(prepared, stand_in, tmp_path):
    with hold(tmp_path / "run", "nnunet"), pytest.raises(BusyError):
        run_nnunet(CONFIG, prepared, tmp_path / "run", python=stand_in)


@pytest.mark.parametrize("multiples", [(), (2, 1), (1, 1), (0, 1)])
def test_multiples_that_make_no_sense(prepared, stand_in, tmp_path, multiples):
    with pytest.raises(ConfigError):
        run_nnunet(CONFIG, prepared, tmp_path / "run", python=stand_in, multiples=multiples)


@pytest.mark.parametrize(
    "wrong",
    [
        {"minutes": 0.0},
        {"patch": (4, 64, 64)},
        {"batch": 0},
        {"stages": 1},
        {"spacing_mm": (1.0, 0.0, 1.0)},
        {"num_labelled": 0},
        {"workers": -1},
    ],
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ConfigError):
        NnunetConfig(**{"minutes": 1.0} | wrong)


def test_what_the_planner_is_told_is_in_nnunet_s_order_of_axes():
    told = replace(CONFIG, patch=(16, 48, 40), spacing_mm=(0.5, 0.6, 2.0), batch=3).plan_settings()
    assert told["patch"] == [16, 48, 40]
    assert told["spacing_mm"] == [2.0, 0.6, 0.5]
    assert (told["batch"], told["stages"], told["base_features"]) == (3, None, None)


def test_the_verb(head_study, stand_in, tmp_path, capsys):
    data, out, again = str(head_study.prepared), tmp_path / "run", tmp_path / "again"
    arguments = ["nnunet", "-d", data, "-o", str(out), "--python", str(stand_in), "--no-calibration"]
    assert main.run([*arguments, "--json"]) == 2
    assert "give --minutes or --finished" in capsys.readouterr().out
    assert main.run([*arguments, "--minutes", "1", "--patch", "8", "16", "24", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [(row["multiple"], row["dice_calibrated"]) for row in values["lengths"]] == [(1, None)]
    assert set(values["stages"]) == {"plan", "x1-train", "x1-predict-development", "x1-predict-test"}
    assert main.run(["nnunet", "-d", data, "--finished", str(out / "x1"), "-o", str(again)]) == 0
    assert "development dice, calibrated" in capsys.readouterr().out
    assert main.run([*arguments[:5], "--python", str(tmp_path / "none"), "--minutes", "1"]) == 2
    assert "NNUNET_MISSING" in capsys.readouterr().err


def test_no_development_case_is_an_error_before_nnunet_plans(head_study, stand_in, calls, tmp_path, monkeypatch):
    prepared = head_study.open()
    cases = tuple(replace(case, split="" if case.split == "development" else case.split) for case in prepared.cases)
    bare = replace(prepared, manifest=replace(prepared.manifest, cases=cases))
    with pytest.raises(DataError) as caught:
        run_nnunet(CONFIG, bare, tmp_path / "run", python=stand_in)
    assert caught.value.code == "EMPTY_SPLIT"
    assert verbs(calls()) == ["versions"]
