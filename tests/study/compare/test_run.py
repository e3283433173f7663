"""The verb end to end: models, label maps and tables together, every look written down, every misfit named."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from apatite.cli import main
from apatite.core.commit import commit_text
from apatite.core.errors import ConfigError, DataError, ModelError
from apatite.io.nifti import read_label, read_scan, write_label
from apatite.io.run_folder import RunFolder
from apatite.study.compare.config import CompareConfig
from apatite.study.compare.earlier import read_earlier, table_of
from apatite.study.compare.run import compare_models
from apatite.study.intervals import IntervalConfig
from apatite.study.outcome_table import outcomes_csv, read_outcomes
from apatite.study.run import evaluate_models

QUICK = CompareConfig(intervals=IntervalConfig(resamples=30, method="percentile"))


@pytest.fixture
def maps(head_study, tmp_path) -> Path:
    """The annotations of the test split, as somebody's label maps."""
    prepared = head_study.open()
    for case in prepared.manifest.of_split("test"):
        scan = read_scan(prepared.manifest.image_path(case))
        label = read_label(prepared.manifest.label_path(case), scan.stack)
        write_label(tmp_path / "reader" / f"{case.case_id}.nii.gz", label, scan.stack)
    return tmp_path / "reader"


def test_a_run_against_label_maps_and_then_from_the_table_alone(tuned, head_study, maps, sees_hu, tmp_path):
    out, before = tmp_path / "out", len(RunFolder(path=tuned).read_looks())
    made = compare_models([str(tuned), f"reader one={maps}"], out, head_study.prepared, config=QUICK)
    assert [model["name"] for model in made.values["models"]] == ["tuned", "reader one"]
    dice = next(d for d in made.values["differences"] if d["quantity"] == "dice" and d["hu_gate"] is None)
    assert (dice["model"], dice["baseline"], dice["num_cases"]) == ("reader one", "tuned", 6)
    assert dice["model_value"] == 1.0
    assert dice["difference"]["value"] == pytest.approx(1 - dice["baseline_value"])
    surface = next(d for d in made.values["differences"] if d["quantity"] == "surface_dice" and d["hu_gate"] is None)
    assert surface["model_value"] == 1.0
    assert 0 < surface["baseline_value"] < 1
    assert made.values["domains"] == ["phantom"]
    assert [look["split"] for look in RunFolder(path=out).read_looks()] == ["test", "test"]
    assert len(RunFolder(path=tuned).read_looks()) == before + 1
    again = compare_models([str(out)], tmp_path / "again", config=QUICK)
    same = ("models", "label_names", "domains", "differences", "strata", "levels", "burden_groups", "family_sizes")
    assert {name: again.values[name] for name in same} == {name: made.values[name] for name in same}
    assert not (tmp_path / "again" / "looks.jsonl").exists()


def test_tables_of_evaluate_join_models_and_keep_their_cut_points(tuned, head_study, maps, sees_hu, tmp_path):
    evaluate_models([tuned], head_study.open(), tmp_path / "earlier", intervals=QUICK.intervals)
    made = compare_models([f"old={tmp_path}/earlier", str(maps)], tmp_path / "out", head_study.prepared, config=QUICK)
    assert [model["name"] for model in made.values["models"]] == ["old", "reader"]
    rows = read_outcomes(tmp_path / "out" / "cases.csv")
    assert rows["old"] == read_outcomes(tmp_path / "earlier" / "cases.csv")["tuned"]
    earlier = read_earlier(tmp_path / "earlier" / "cases.csv")
    assert (dict(earlier.label_names), earlier.deployed) == ({1: "calcium"}, {})


def test_trainings_are_given_by_commas_and_read_back_as_one_model(tuned, head_study, sees_hu, tmp_path, four_cases):
    for number in (1, 2, 3):
        rows = [replace(o, true_positive=o.true_positive + number * o.is_positive) for o in four_cases]
        rows = [
            replace(o, reference_mm3=9.0, false_negative=o.false_negative - number * o.is_positive + 3) for o in rows
        ]
        commit_text(tmp_path / f"s{number}" / "cases.csv", outcomes_csv({"m": rows}))
    commit_text(tmp_path / "base.csv", outcomes_csv({"base": read_outcomes(tmp_path / "s1" / "cases.csv")["m"]}))
    several = ",".join(f"{tmp_path}/s{number}" for number in (1, 2, 3))
    made = compare_models([f"{tmp_path}/base.csv", f"ours={several}"], tmp_path / "out", config=QUICK)
    assert made.values["models"][1] == {
        "name": "ours", "model": "ours", "is_calibrated": False, "runs": ["ours #1", "ours #2", "ours #3"],
    }  # fmt: skip
    level = next(one for one in made.values["levels"] if (one["model"], one["quantity"]) == ("ours", "recall"))
    assert len(level["run_values"]) == 3
    assert level["run_sd"] > 0
    assert "over trainings" in made.report.read_text()
    again = compare_models([str(tmp_path / "out")], tmp_path / "again", config=QUICK)
    assert again.values["models"] == made.values["models"]


def test_misfits_are_named(tuned, head_study, body_study, maps, four_cases, sees_hu, tmp_path):
    commit_text(tmp_path / "a" / "cases.csv", outcomes_csv({"a": four_cases}))
    commit_text(tmp_path / "b.csv", outcomes_csv({"b": four_cases[1:], "c": four_cases[1:]}))
    with pytest.raises(DataError) as caught:
        compare_models([f"{tmp_path}/a", f"{tmp_path}/b.csv"], tmp_path / "out", config=QUICK)
    assert (caught.value.code, caught.value.where) == ("CASES_DIFFER", "a")
    wrong = {
        "named prepared data with -d|-d": [f"{tmp_path}/a", str(tuned)],
        "holds 2 models": [f"x={tmp_path}/b.csv"],
        "only one model": [f"{tmp_path}/a"],
        "two models are called 'a'": [f"{tmp_path}/a", f"{tmp_path}/copy.csv"],
    }
    commit_text(tmp_path / "copy.csv", outcomes_csv({"a": four_cases}))
    for said, arguments in wrong.items():
        with pytest.raises(ConfigError) as caught:
            compare_models(arguments, tmp_path / "out", config=QUICK)
        assert any(part in str(caught.value) for part in said.split("|")), str(caught.value)
    with pytest.raises(ConfigError, match="left organ"):
        compare_models([str(tuned), str(maps)], tmp_path / "out", body_study.prepared, config=QUICK)
    assert not (tmp_path / "out" / "compare.html").exists()


def test_a_mistake_in_the_second_name_costs_no_look_at_the_split(tuned, head_study, tmp_path):
    before = len(RunFolder(path=tuned).read_looks())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    with pytest.raises((DataError, ModelError)):
        compare_models([str(tuned), str(tmp_path / "model")], tmp_path / "out", head_study.prepared, config=QUICK)
    assert len(RunFolder(path=tuned).read_looks()) == before
    assert not (tmp_path / "out" / "looks.jsonl").exists()


def test_what_lies_beside_a_table_must_be_understood(four_cases, tmp_path):
    commit_text(tmp_path / "cases.csv", outcomes_csv({"a": four_cases}))
    assert table_of(tmp_path) == tmp_path / "cases.csv"
    assert table_of(tmp_path / "cases.csv") == tmp_path / "cases.csv"
    assert table_of(tmp_path / "other") is None
    for content in ("{", "[]", "{}", '{"label_names": {"x": "calcium"}}', '{"apatite": {"label_names": 3}}'):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(DataError) as caught:
            read_earlier(tmp_path / "cases.csv")
        assert (caught.value.code, caught.value.where) == ("BAD_TABLE", str(tmp_path / "summary.json"))
    (tmp_path / "summary.json").write_text('{"apatite": {"label_names": {"1": "calcium"}, "summaries": []}}')
    assert read_earlier(tmp_path / "cases.csv").label_names == {1: "calcium"}


def test_the_command(four_cases, tmp_path, capsys):
    better = [replace(o, false_positive=0, predicted_mm3=o.predicted_mm3 - 0.5 * o.false_positive) for o in four_cases]
    commit_text(tmp_path / "t.csv", outcomes_csv({"old": four_cases, "new": better}))
    arguments = ["compare", str(tmp_path / "t.csv"), "-o", str(tmp_path / "out"), "--resamples", "40", "--json"]
    assert main.run([*arguments, "--margin-dice", "0", "--margin-mm3", "2.5", "--sizes", "3", "8"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["config"]["margins"] == {"volume_error_mm3": 2.5}
    assert values["config"]["size_cuts_mm3"] == [3.0, 8.0]
    assert Path(values["report"]).is_file()
    rows = list(csv.DictReader((tmp_path / "out" / "differences.csv").read_text().splitlines()))
    assert {row["margin"] for row in rows} == {"", "2.5"}
    assert main.run([*arguments[:-1], "--interval", "percentile"]) == 0
    assert "new − old" in capsys.readouterr().out
    assert main.run(["compare", str(tmp_path / "gone"), "-o", str(tmp_path / "out")]) == 2
    assert main.run([*arguments, "--sizes", "8", "3"]) == 2
