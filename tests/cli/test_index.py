"""`apatite index` from a folder to a manifest that is split, checked and named."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.cli import main
from apatite.cli.index import Index
from apatite.io.manifest import read_manifest


@pytest.fixture(autouse=True)
def verb(monkeypatch):
    monkeypatch.setitem(main.VERBS, "index", Index)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Twelve patients, two series each, all labelled with the value 1."""
    for part in ("images", "labels"):
        (tmp_path / "scans" / part).mkdir(parents=True)
    for number in range(24):
        name = f"P{number // 2:02d}_s{number % 2}.nii.gz"
        voxels = np.random.default_rng(number).integers(-100, 500, (5, 4, 3)).astype(np.int16)
        affine = np.diag([0.5, 0.5, 2.5, 1.0])
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "scans" / "images" / name)
        nib.save(nib.Nifti1Image((voxels > 400).astype(np.uint8), affine), tmp_path / "scans" / "labels" / name)
    return tmp_path / "scans"


def index(capsys, *arguments) -> tuple[int, dict]:
    code = main.run(["index", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def test_from_a_folder(scans, tmp_path, capsys):
    out = tmp_path / "study" / "manifest.csv"
    arguments = (
        "-i",
        scans,
        "-o",
        out,
        "--patient-pattern",
        r"^(P\d+)_",
        "--labelled",
        3,
        "--label-names",
        "1=calcium",
    )
    code, values = index(capsys, *arguments, "--to-nnunet", tmp_path / "Dataset501_Calcium")
    assert code == 0
    assert (values["cases"], values["patients"]) == (24, 12)
    assert values["splits"] == {"pretrain": 17, "finetune": 3, "development": 1, "test": 1, "unused": 2}
    manifest = read_manifest(out)
    assert manifest.label_names == {1: "calcium"}
    assert all(manifest.image_path(case).exists() for case in manifest.cases)
    assert {case.slice_thickness_mm for case in manifest.cases} == {2.5}
    assert values["nnunet"] == {"imagesTr": 21, "imagesTs": 1}
    first = out.read_bytes()
    index(capsys, *arguments)
    assert out.read_bytes() == first


def test_a_bad_file_is_named_and_the_exit_code_says_so(scans, tmp_path, capsys):
    file = scans / "images" / "P03_s1.nii.gz"
    file.write_bytes(file.read_bytes()[:50])
    code, values = index(capsys, "-i", scans, "-o", tmp_path / "m.csv")
    assert code == 8
    assert [(bad["case_id"], bad["code"]) for bad in values["failures"]] == [("p03_s1", "TRUNCATED")]
    assert len(read_manifest(tmp_path / "m.csv").cases) == 24


def test_a_planted_leak_is_refused(scans, tmp_path, capsys):
    """The same image under two patients, one of which lands in test."""
    code, _ = index(capsys, "-i", scans, "-o", tmp_path / "m.csv", "--patient-pattern", r"^(P\d+)_")
    assert code == 0
    cases = read_manifest(tmp_path / "m.csv").cases
    held = next(case for case in cases if case.split == "test")
    tuned = next(case for case in cases if case.split == "finetune")
    copy, original = (scans / "images" / Path(case.image).name for case in (held, tuned))
    copy.write_bytes(original.read_bytes())
    (tmp_path / "m.csv").unlink()
    code, values = index(capsys, "-i", scans, "-o", tmp_path / "m.csv", "--patient-pattern", r"^(P\d+)_")
    assert code == 3
    assert values["code"] == "LEAK"
    assert {held.case_id, tuned.case_id} <= set(values["what"].replace(")", " ").split()) | {values["where"]}
    assert not (tmp_path / "m.csv").exists()


def test_usage_errors(scans, tmp_path, capsys):
    assert index(capsys, "-i", scans, "-o", tmp_path / "m.txt")[0] == 2
    assert index(capsys, "-i", scans, "-o", tmp_path / "m.csv", "--label-names", "calcium")[0] == 2
    assert index(capsys, "-i", tmp_path / "none", "-o", tmp_path / "m.csv")[0] == 3
    assert index(capsys, "-i", scans, "-o", tmp_path / "m.csv", "--labelled", 900)[0] == 3


def test_text_for_people(scans, tmp_path, capsys):
    assert main.run(["index", "-i", str(scans), "-o", str(tmp_path / "m.csv")]) == 0
    assert "24 cases of 24 patients" in capsys.readouterr().out
