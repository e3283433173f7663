"""An evaluation end to end: its three files, and a trace of every look at the test split."""

import csv
import json
from pathlib import Path

import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.io.model_package import copy_calibrated
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.segment.predict import open_predictor
from apatite.study.calibrate import CalibrateConfig, calibrate
from apatite.study.contestants import contestant_names, open_model
from apatite.study.intervals import IntervalConfig
from apatite.study.run import evaluate_models, labelled_cases

QUICK = IntervalConfig(resamples=40, method="percentile")


@pytest.fixture
def calibrated(tuned, head_study, sees_hu, tmp_path):
    prepared = head_study.open()
    found = calibrate(
        open_predictor(tuned),
        prepared.manifest,
        labelled_cases(prepared, "development"),
        CalibrateConfig(resamples=20),
    )
    copy_calibrated(tuned / "model", tmp_path / "better", found.to_dict(), found.domains, found.burden_dict())
    return tmp_path / "better"


def test_end_to_end(tuned, calibrated, head_study, tmp_path):
    out = tmp_path / "evaluation"
    before = len(RunFolder(path=tuned).read_looks())
    made = evaluate_models([tuned / "model", calibrated], head_study.open(), out, intervals=QUICK)
    names = ["tuned", "better", "better + calibrated"]
    rows = list(csv.DictReader((out / "cases.csv").read_text().splitlines()))
    assert {row["case_id"] for row in rows} == {f"head-{number}" for number in range(16, 23)}
    assert len(rows) == 3 * 7 * 2
    summary = json.loads((out / "summary.json").read_text())
    assert {"foreground_mean", "mean", "metric_per_case"} <= set(summary)
    assert set(summary["mean"]["1"]) == {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"}
    assert summary["apatite"]["models"] == names
    page = (out / "report.html").read_text()
    assert made.report == out / "report.html"
    assert all(name in page for name in names)
    assert "phantom" in page
    assert [path.name for path in sorted(out.iterdir())] == ["cases.csv", "looks.jsonl", "report.html", "summary.json"]
    # The same weights, read at 0.5: the two models say the same; calibration changes it.
    volumes = {name: [r["predicted_mm3"] for r in rows if r["model"] == name] for name in names}
    assert volumes["tuned"] == volumes["better"] != volumes["better + calibrated"]
    groups = next(
        s["burden_groups"]
        for s in summary["apatite"]["summaries"]
        if s["model"] == "better + calibrated" and s["hu_gate"] == 130 and s["stratum"] == "all cases"
    )
    assert set(groups) == {"paper", "deployed"}
    # Probabilities are judged on the evaluated cases, for the calibrated model alone.
    (judged,) = summary["apatite"]["probability"].items()
    assert (judged[0], judged[1]["labels"]["1"]["after"]["num_cases"]) == ("better + calibrated", 7)
    assert {name: any(r["soft_mm3"] for r in rows if r["model"] == name) for name in names} == {
        "tuned": False, "better": False, "better + calibrated": True,
    }  # fmt: skip
    assert ">Probability<" in page
    looks = RunFolder(path=out).read_looks()
    assert [look["split"] for look in looks] == ["test", "test"]
    assert len(RunFolder(path=tuned).read_looks()) == before + 1
    evaluate_models([tuned], head_study.open(), out, "development", intervals=QUICK)
    assert [look["split"] for look in RunFolder(path=out).read_looks()] == ["test", "test", "development"]
    assert len(RunFolder(path=tuned).read_looks()) == before + 2
    # The package itself is never written to.
    assert open_predictor(tuned).digest == open_predictor(tuned / "model").digest


def test_names_of_models():
    assert contestant_names([Path("runs/a/model"), Path("runs/b"), Path("models/c/")]) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="two models are called 'a'"):
        contestant_names([Path("runs/a/model"), Path("other/a")])


def test_other_labels_are_refused_before_anything_is_looked_at(tuned, body_study, tmp_path, sees_hu):
    before = len(RunFolder(path=tuned).read_looks())
    with pytest.raises(ConfigError, match="left organ") as caught:
        evaluate_models([tuned], body_study.open(), tmp_path / "out", intervals=QUICK)
    assert caught.value.where == str(tuned)
    assert not (tmp_path / "out").exists()
    assert len(RunFolder(path=tuned).read_looks()) == before
    with pytest.raises(ConfigError):
        open_model(tuned, "tuned").refuse_other_labels(body_study.open())


def test_a_split_without_labels(head_study):
    with pytest.raises(DataError) as caught:
        labelled_cases(head_study.open(), "pretrain")
    assert caught.value.code == "EMPTY_SPLIT"


def test_organs_have_no_gate_and_no_groups(body_study, tiny, tmp_path, sees_hu):
    from dataclasses import replace

    from apatite.segment.finetune import finetune

    finetune(replace(tiny, crop=(8, 16, 24), steps=1), body_study.prepared, tmp_path / "organs")
    made = evaluate_models([tmp_path / "organs"], Prepared.open(body_study.prepared), tmp_path / "out", intervals=QUICK)
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").read_text().splitlines()))
    assert [(row["case_id"], row["label"], row["hu_gate"]) for row in rows] == [
        ("body-10", "2", ""),
        ("body-10", "5", ""),
        ("body-11", "2", ""),
    ]
    assert made.values["apatite"]["label_names"] == {"2": "left organ", "5": "right organ"}
    assert all(summary["burden_groups"] == {} for summary in made.values["apatite"]["summaries"])
