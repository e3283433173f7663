"""The threshold is chosen on development cases; a test case is not even opened."""

import json

import pytest

from apatite.cli import main
from apatite.io.manifest import read_manifest
from apatite.study import cases as study_cases


def test_only_development_cases_are_opened(tuned, head_study, tmp_path, monkeypatch, capsys):
    opened, read_image = [], study_cases.read_image

    def note(path, case_id=""):
        opened.append(case_id)
        return read_image(path, case_id)

    monkeypatch.setattr(study_cases, "read_image", note)
    code = main.run(["calibrate", "-m", str(tuned), "-d", str(head_study.prepared), "-o", str(tmp_path / "better")])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "7 development cases (phantom)" in shown.out
    assert "label 1: temperature" in shown.out
    assert "on the 7 cases it was fitted on" in shown.out
    assert "no interval on the volume: 9 patients of one group of slice thickness are needed" in shown.out
    development = read_manifest(head_study.manifest).of_split("development")
    assert len(development) == 7
    assert sorted(opened) == sorted(case.case_id for case in development)


def test_flags_reach_the_calibration(tuned, head_study, tmp_path, capsys):
    code = main.run(
        ["calibrate", "-m", str(tuned), "-d", str(head_study.prepared), "-o", str(tmp_path / "better"),
         "--no-temperature", "--interval-share", "0", "--json"]
    )  # fmt: skip
    assert code == 0
    values = json.loads(capsys.readouterr().out)
    calibration = values["calibration"]
    assert (calibration["temperatures"], calibration["intervals"]) == ({}, {})
    assert len(calibration["model_digest"]) == len(calibration["data_digest"]) == 64


@pytest.mark.parametrize("share", ["1", "-0.5"])
def test_a_share_that_is_none(share, tuned, head_study, tmp_path, capsys):
    out = str(tmp_path / "better")
    flag = f"--interval-share={share}"
    assert main.run(["calibrate", "-m", str(tuned), "-d", str(head_study.prepared), "-o", out, flag]) == 2
    assert "is not between 0 and 1" in capsys.readouterr().err
