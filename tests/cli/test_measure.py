"""The verb `measure`: one scan, a manifest, its table, and what it refuses."""

import json

import numpy as np
import pytest

from apatite.cli.main import run
from apatite.core.scan import Scan, SliceStack
from apatite.io.manifest import Case, Manifest, write_manifest
from apatite.io.nifti import write_label, write_scan


@pytest.fixture
def folder(tmp_path):
    """One scan, 3 mm slices of pixels of 0.2 mm²; 4 pixels of label 1 and 6 of label 2, and one of 129 HU."""
    stack = SliceStack(
        shape=(4, 9, 11),
        origins_ras_mm=np.array([[-2.0, -2.0, 3.0 * k] for k in range(4)]),
        column_step_ras_mm=np.array([0.5, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 0.4, 0.0]),
        thickness_mm=np.full(4, 3.0),
    )
    voxels_hu, label = np.full(stack.shape, 40, np.int16), np.zeros(stack.shape, np.uint8)
    voxels_hu[1, 1:3, 1:3], voxels_hu[2, 5:7, 6:9] = 450, 250
    label[1, 1:3, 1:3], label[2, 5:7, 6:9], label[2, 5, 9] = 1, 2, 2
    write_scan(tmp_path / "Head.nii.gz", Scan(voxels_hu=voxels_hu, stack=stack))
    write_label(tmp_path / "label.nii.gz", label, stack)
    return tmp_path


def measured(capsys, *arguments):
    code = run(["measure", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def test_one_scan_by_side(folder, capsys):
    arguments = ["-i", folder / "Head.nii.gz", "--label", folder / "label.nii.gz", "--right", 1, "--left", 2]
    code, values = measured(capsys, *arguments, "--kvp", 120)
    assert (code, values["failures"], values["out"]) == (0, [], None)
    made = values["measurements"]["head"]
    assert made["right"]["volume_mm3"] == pytest.approx(4 * 0.6)
    assert made["left"]["volume_mm3"] == pytest.approx(6 * 0.6)
    # 4 pixels are 0.8 mm² and score nothing, 6 pixels 1.2 mm² of 250 HU.
    assert (made["right"]["agatston"], made["left"]["agatston"]) == (0, pytest.approx(2.4))
    assert (made["agatston_standard"], made["rule"]) == (True, "paper")
    assert run(["measure", *map(str, arguments), "-o", str(folder / "out.csv"), "--rule", "marked"]) == 0
    text = capsys.readouterr().out
    assert "everything that is marked" in text
    assert "4.20" in text  # 7 pixels
    assert "not standard" in text
    assert "total" in (folder / "out.csv").read_text()


def test_two_values_without_a_name_are_refused(folder, capsys):
    arguments = ["-i", folder / "Head.nii.gz", "--label", folder / "label.nii.gz"]
    code, values = measured(capsys, *arguments)
    assert (code, values["code"], values["where"]) == (3, "BAD_LABEL", "head")
    assert "--right" in values["fix"]
    code, values = measured(capsys, *arguments, "--calcium", 2)
    assert code == 0
    assert values["measurements"]["head"]["right"] is None
    assert values["measurements"]["head"]["total"]["num_lesions"] == 1


def test_a_manifest_with_a_bad_case(folder, capsys):
    cases = [
        Case(case_id=name, patient_id=name, image=image, label=label)
        for name, image, label in (
            ("good", "Head.nii.gz", "label.nii.gz"),
            ("bad", "gone.nii.gz", "label.nii.gz"),
            ("unlabelled", "gone.nii.gz", ""),
        )
    ]
    path = folder / "cases.csv"
    write_manifest(path, Manifest(root=folder, cases=tuple(cases), label_names={1: "right", 2: "left"}))
    out = folder / "measured.json"
    code, values = measured(capsys, "-i", path, "--right", 1, "--left", 2, "-o", out)
    assert (code, list(values["measurements"])) == (8, ["good"])
    assert [failure["where"] for failure in values["failures"]] == ["bad"]
    assert json.loads(out.read_text()) == values["measurements"]
    assert run(["measure", "-i", str(path), "--right", "1", "--left", "2"]) == 8
    assert "failed: bad" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--label", "label.nii.gz", "--right", "1"], 2),
        (["--label", "label.nii.gz", "--calcium", "1", "-o", "out.xls"], 2),
        (["--label", "gone.nii.gz"], 3),
    ],
)
def test_refusals(folder, capsys, monkeypatch, arguments, code):
    monkeypatch.chdir(folder)
    assert measured(capsys, "-i", "Head.nii.gz", *arguments)[0] == code
    assert not (folder / "out.xls").exists()


def test_a_manifest_is_not_replaced(folder, capsys):
    (folder / "cases.csv").write_text("mine")
    assert measured(capsys, "-i", folder / "cases.csv", "-o", folder / "." / "cases.csv")[0] == 2
    assert (folder / "cases.csv").read_text() == "mine"


def test_a_manifest_takes_no_label(folder, capsys):
    assert measured(capsys, "-i", folder / "cases.csv", "--label", "label.nii.gz")[0] == 2
