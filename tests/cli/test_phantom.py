import json

import pytest

from apatite.cli import main
from apatite.phantom import head_cohort


def test_whole_heads_are_written_as_dicom(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(head_cohort, "MATRIX", {"small": 48})
    monkeypatch.setattr(head_cohort, "BONE_SHARE", 0.0)
    out = tmp_path / "heads"
    assert main.run(["phantom", "--dicom", "-o", str(out), "--patients", "1", "--seed", "2", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["version"], values["patients"], values["series"]) == ("head-1", 1, 1)
    assert len(list((out / "dicom" / "PHANTOM-0000" / "s01").glob("*.dcm"))) >= 15
    assert (out / "truth.csv").read_text().count("\n") == 2
    assert not (out / "manifest.csv").exists()


def test_checks_belong_to_regions(tmp_path, capsys):
    assert main.run(["phantom", "--dicom", "--check", "-o", str(tmp_path / "heads")]) == 2
    assert "--check" in capsys.readouterr().err
    assert not (tmp_path / "heads").exists()


def test_labels_of_a_reader_belong_to_regions_and_are_said(tmp_path, capsys):
    assert main.run(["phantom", "--dicom", "--labels", "reader", "-o", str(tmp_path / "heads")]) == 2
    assert "--labels" in capsys.readouterr().err
    out = tmp_path / "cohort"
    assert main.run(["phantom", "-o", str(out), "--patients", "1", "--seed", "5", "--labels", "reader", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == "reader"
    assert json.loads((out / "cohort.json").read_text())["labels"] == "reader"


@pytest.mark.parametrize("flag", [["--patients", "0"], ["--workers", "0"]])
def test_no_patients_and_no_workers_are_usage_errors(tmp_path, flag, capsys):
    assert main.run(["phantom", "--dicom", "-o", str(tmp_path / "heads"), *flag]) == 2
    assert capsys.readouterr().err.startswith("error: ")
