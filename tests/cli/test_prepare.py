"""`apatite prepare` from a manifest to arrays, with exit codes that tell a bad case from a bad batch."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.cli import main
from apatite.cli.prepare import Prepare
from apatite.data.prepare import RECIPES
from apatite.io.manifest import Case, Manifest, write_manifest
from apatite.io.store import Prepared


@pytest.fixture(autouse=True)
def verb(monkeypatch):
    monkeypatch.setitem(main.VERBS, "prepare", Prepare)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    cases = []
    for number, split in enumerate(["pretrain", "finetune", "development", "test"]):
        voxels = np.random.default_rng(number).integers(-100, 500, (40, 30, 12)).astype(np.int16)
        affine = np.diag([0.9, 0.9, 2.5, 1.0])
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"i{number}.nii.gz")
        nib.save(nib.Nifti1Image((voxels > 400).astype(np.uint8), affine), tmp_path / f"l{number}.nii.gz")
        name = f"c{number}"
        cases.append(
            Case(case_id=name, patient_id=name, image=f"i{number}.nii.gz", label=f"l{number}.nii.gz", split=split)
        )
    write_manifest(tmp_path / "m.csv", Manifest(root=tmp_path, cases=tuple(cases), label_names={1: "calcium"}))
    return tmp_path


def prepare(study: Path, capsys, *arguments) -> tuple[int, dict]:
    code = main.run(
        ["prepare", "--json", "-i", str(study / "m.csv"), "-o", str(study / "out"), "--workers", "0", *arguments]
    )
    return code, json.loads(capsys.readouterr().out)


def test_every_recipe_is_offered():
    from typing import get_args, get_type_hints

    assert set(get_args(get_type_hints(Prepare)["recipe"])) == set(RECIPES)


def test_a_good_batch(study, capsys):
    code, values = prepare(study, capsys)
    assert code == 0
    assert values["counts"] == {"pretrain": 1, "finetune": 1, "development": 1, "test": 1}
    assert Prepared.open(study / "out").images.shape == (4, 16, 48, 48)


def test_rejected_cases_are_left_out(study, capsys):
    (study / "d.csv").write_text("case_id,decision,reason,who,when\nc1,reject,moved,r,2026-03-01T09:30:00\n")
    code, values = prepare(study, capsys, "--decisions", str(study / "d.csv"), "--workers", "1")
    assert (code, values["rejected"], values["failures"]) == (0, 1, [])
    assert [case.case_id for case in Prepared.open(study / "out").cases] == ["c0", "c2", "c3"]
    (study / "d.csv").write_text("case_id,decision,reason,who,when\nc9,reject,moved,r,2026-03-01T09:30:00\n")
    assert (
        main.run(["prepare", "-i", str(study / "m.csv"), "-o", str(study / "o"), "--decisions", str(study / "d.csv")])
        == 3
    )


def test_limits_templates_and_tracebacks_are_as_asked(study):
    verb = Prepare(input=study / "m.csv", out=study / "out", localise=True, case_minutes=2.0, case_gib=3.0, debug=True)
    given = verb._given()
    assert (given.limits.wall_s, given.limits.memory_bytes) == (120.0, 3 * 2**30)
    assert given.limits.debug_folder == study / "out.debug"
    assert [template.name for template in given.templates] == ["procedural"]
    plain = Prepare(input=study / "m.csv", out=study / "out")._given()
    assert (plain.templates, plain.decisions, plain.limits.debug_folder) == ((), (), None)


def test_overrides_change_the_recipe(study, capsys):
    code, _ = prepare(study, capsys, "--recipe", "volume", "spacing_mm=[2,2,5]", "least_shape=[8,8,8]")
    assert code == 0
    prepared = Prepared.open(study / "out")
    assert prepared.about["config"]["spacing_mm"] == [2.0, 2.0, 5.0]
    assert prepared.volume("c0").grid.spacing_mm == (2.0, 2.0, 5.0)


def test_exit_codes(study, capsys):
    code, values = prepare(study, capsys, "spacing=[2,2,5]")
    assert (code, values["fix"]) == (2, "did you mean 'spacing_mm'?")
    (study / "i2.nii.gz").write_bytes(b"gone")
    code, values = prepare(study, capsys)
    assert code == 8
    assert [bad["case_id"] for bad in values["failures"]] == ["c2"]
    code, values = prepare(study, capsys)
    assert code == 3
    assert "exists already" in values["what"]
    for number in range(4):
        (study / f"i{number}.nii.gz").write_bytes(b"gone")
    main.run(["prepare", "-i", str(study / "m.csv"), "-o", str(study / "other"), "--workers", "0"])
    assert not (study / "other").exists()
