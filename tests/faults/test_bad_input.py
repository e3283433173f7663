"""Everything bad that a user can hand in: a named error, the next step, an exit code, nothing left over."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.cli import main
from apatite.io.manifest import read_manifest, write_manifest

REGION = ["region.shape=[8,16,24]", "region.spacing_mm=[1.0,1.25,2.5]"]
SETTINGS = [
    "patch=[4,8,8]", "decoder.mae.dim=24", "decoder.mae.depth=1", "decoder.mae.heads=2", "steps=2", "batch=2",
    "precision={device: cpu, format: fp32, attention_in_fp32: false, head_multiple: 1, threads: 1}",
]  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where a test may write; outputs go to `out` below it."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def heads(head_study, work):
    """A copy of the heads that may be damaged; returns how to write a changed manifest."""
    manifest = read_manifest(head_study.manifest)
    scans = work / "scans"
    scans.mkdir()
    for path in head_study.manifest.parent.glob("*.nii.gz"):
        shutil.copy(path, scans)
    for path in head_study.manifest.parent.glob("*.slices.json"):
        shutil.copy(path, scans)
    manifest = replace(manifest, root=scans)
    write_manifest(scans / "manifest.csv", manifest)
    return manifest


def fails(capsys, code: int, *arguments: object) -> dict:
    """Run a verb that must fail; returns what it says, once as JSON and once as text."""
    assert main.run([*map(str, arguments), "--json"]) == code
    captured = capsys.readouterr()
    values = json.loads(captured.out)
    assert captured.err == "error: " + captured.err.removeprefix("error: ")
    assert values["what"] in captured.err
    assert values["fix"], values
    assert values["exit_code"] == code
    return values


def no_debris(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if ".part-" in path.name]


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def holes(path: Path) -> None:
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).astype(np.float32)
    voxels[3, 4, 5] = np.nan
    nib.save(nib.Nifti1Image(voxels, image.affine), path)


def not_nifti(path: Path) -> None:
    path.write_bytes(b"this is no image" * 100)


def other_grid(path: Path) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += [0.0, 3.0, 0.0]
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def unknown_value(path: Path) -> None:
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(voxels, image.affine), path)


DAMAGE = {
    "torn": (torn, "image", ("TRUNCATED", "CRC")),
    "nan": (holes, "image", ("NONFINITE",)),
    "not nifti": (not_nifti, "image", ("NOT_NIFTI", "CRC")),
    "missing": (Path.unlink, "image", ("MISSING_FILE",)),
    "other grid": (other_grid, "label", ("GRID_MISMATCH",)),
    "unknown value": (unknown_value, "label", ("BAD_LABEL",)),
    "torn label": (torn, "label", ("TRUNCATED", "CRC")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_one_bad_case_is_named_and_left_out(name, heads, work, capsys):
    damage, which, codes = DAMAGE[name]
    case = heads.of_split("finetune")[2]
    damage(heads.root / getattr(case, which))
    arguments = ["prepare", "--json", "-i", str(heads.root / "manifest.csv"), "-o", str(work / "out"), *REGION]
    assert main.run(arguments) == 8
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["case_id"] == case.case_id
    assert failure["code"] in codes
    assert failure["fix"]
    assert no_debris(work)


@pytest.mark.parametrize("name", DAMAGE)
def test_where_every_case_is_bad_nothing_is_written(name, heads, work, capsys, listing):
    damage, which, codes = DAMAGE[name]
    only = replace(heads, cases=heads.of_split("finetune")[:2])
    write_manifest(heads.root / "manifest.csv", only)
    for case in only.cases:
        damage(heads.root / getattr(case, which))
    before = listing(work)
    values = fails(capsys, 3, "prepare", "-i", heads.root / "manifest.csv", "-o", work / "out", *REGION)
    assert values["where"] == only.cases[0].case_id
    assert values["code"] in codes
    assert listing(work) == before


@pytest.mark.parametrize("name", ["torn", "nan", "not nifti", "other grid"])
def test_a_file_that_went_bad_after_preparing(name, heads, tuned, work, capsys, listing):
    """Calibration and evaluation read the originals again."""
    main.run(["prepare", "-i", str(heads.root / "manifest.csv"), "-o", str(work / "prepared"), *REGION])
    capsys.readouterr()
    damage, which, codes = DAMAGE[name]
    for split, verb in (("development", "calibrate"), ("test", "evaluate")):
        case = heads.of_split(split)[3]
        damage(heads.root / getattr(case, which))
        before = listing(work)
        values = fails(capsys, 3, verb, "-m", tuned, "-d", work / "prepared", "-o", work / verb)
        assert (values["where"], values["code"] in codes) == (case.case_id, True)
        added = set(listing(work)) - set(before)
        # The look itself is written down before it is taken.
        assert added <= ({"evaluate", "evaluate/looks.jsonl"} if verb == "evaluate" else set())


def test_empty_label_maps(heads, work, capsys, listing):
    for case in heads.of_split("finetune"):
        path = heads.root / case.label
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    main.run(["prepare", "-i", str(heads.root / "manifest.csv"), "-o", str(work / "prepared"), *REGION])
    capsys.readouterr()
    before = listing(work)
    values = fails(capsys, 3, "finetune", "-d", work / "prepared", "-o", work / "run", *SETTINGS)
    assert (values["code"], values["where"]) == ("BAD_LABEL", str(work / "prepared"))
    assert listing(work) == before


@pytest.mark.parametrize("left_out", ["finetune", "development", "test"])
def test_zero_cases_in_a_split(left_out, heads, tuned, work, capsys, listing):
    kept = replace(heads, cases=tuple(case for case in heads.cases if case.split != left_out))
    write_manifest(heads.root / "manifest.csv", kept)
    main.run(["prepare", "-i", str(heads.root / "manifest.csv"), "-o", str(work / "prepared"), *REGION])
    capsys.readouterr()
    verb = {"finetune": "finetune", "development": "calibrate", "test": "evaluate"}[left_out]
    model = [] if verb == "finetune" else ["-m", tuned]
    before = listing(work)
    values = fails(capsys, 3, verb, *model, "-d", work / "prepared", "-o", work / "out")
    assert values["code"] == "EMPTY_SPLIT"
    assert listing(work) == before


def test_a_region_smaller_than_a_patch(head_study, work, capsys):
    for verb in ("pretrain", "finetune"):
        values = fails(
            capsys, 2, verb, "-d", head_study.prepared, "-o", work / "run", "patch=[16,8,8]", "precision=null"
        )
        assert "smaller than one patch" in values["what"]
    assert list(work.iterdir()) == []


def test_an_unknown_recipe_and_an_unknown_key(head_study, work, capsys):
    values = fails(capsys, 2, "finetune", "-d", head_study.prepared, "-o", work / "run", "--recipe", "jin2024")
    assert values["fix"] == "did you mean 'jin2025'?"
    values = fails(capsys, 2, "finetune", "-d", head_study.prepared, "-o", work / "run", "augment.rotation=3")
    assert values["fix"] == "did you mean 'rotation_deg'?"
    values = fails(capsys, 2, "prepare", "-i", head_study.manifest, "-o", work / "out", "spacing=[1,1,1]")
    assert values["fix"] == "did you mean 'spacing_mm'?"
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("other", [{"patch": (8, 8, 8)}, {"model": "vitiac-s"}], ids=["patch", "width"])
def test_an_encoder_of_another_architecture(head_study, make_encoder, work, capsys, other):
    values = fails(
        capsys, 3, "finetune", "-d", head_study.prepared, "-o", work / "run", "--init-from", make_encoder(**other),
        *SETTINGS, "min_coverage=1.0",
    )  # fmt: skip
    assert values["code"] == "MODEL_SHAPE"
    assert list(work.iterdir()) == []


def test_a_checkpoint_of_another_architecture(head_study, tuned, work, capsys):
    """A run folder whose configuration was edited after it began."""
    shutil.copytree(tuned, work / "run")
    path = work / "run" / "config.yaml"
    path.write_text(path.read_text().replace("vitiac-xs", "vitiac-s"))
    before = (work / "run" / "checkpoints" / "last").read_bytes()
    values = fails(capsys, 3, "finetune", "--resume", "-d", head_study.prepared, "-o", work / "run")
    assert values["code"] == "MODEL_SHAPE"
    assert (work / "run" / "checkpoints" / "last").read_bytes() == before


def test_a_model_that_is_none_or_was_altered(head_study, make_encoder, tuned, work, capsys):
    shutil.copytree(tuned / "model", work / "altered")
    card = work / "altered" / "model.json"
    card.write_text(card.read_text().replace('"seed": 0', '"seed": 1'))
    for model, code in (
        (work / "none", "MODEL_DIGEST"),
        (make_encoder(), "MODEL_SHAPE"),
        (card.parent, "MODEL_DIGEST"),
    ):
        for verb, source in (("predict", ["-i", head_study.manifest]), ("evaluate", ["-d", head_study.prepared])):
            values = fails(capsys, 3, verb, "-m", model, *source, "-o", work / "out")
            assert values["code"] == code
            assert str(model) in values["where"]
    assert [path.name for path in work.iterdir()] == ["altered"]


def test_a_model_of_other_labels(body_study, tuned, work, capsys):
    for verb in ("calibrate", "evaluate"):
        values = fails(capsys, 2, verb, "-m", tuned, "-d", body_study.prepared, "-o", work / "out")
        assert "left organ" in values["what"]
    assert list(work.iterdir()) == []


def test_a_folder_that_is_not_prepared(tuned, work, capsys):
    for verb, model in (("pretrain", []), ("finetune", []), ("calibrate", ["-m", tuned]), ("evaluate", ["-m", tuned])):
        values = fails(capsys, 3, verb, *model, "-d", work / "none", "-o", work / "out")
        assert "apatite prepare" in values["fix"]
    assert list(work.iterdir()) == []


WRITERS = ("prepare", "pretrain", "finetune", "calibrate", "evaluate", "predict")


def writes(verb: str, study, tuned: Path, out: Path) -> list[str]:
    """A command line that would succeed."""
    arguments = {
        "prepare": ["-i", study.manifest, *REGION],
        "pretrain": ["-d", study.prepared, "patch=[4,8,8]", "epochs=1", SETTINGS[-1]],
        "finetune": ["-d", study.prepared, *SETTINGS],
        "calibrate": ["-m", tuned / "model", "-d", study.prepared],
        "evaluate": ["-m", tuned / "model", "-d", study.prepared, "--resamples", 20],
        "predict": ["-m", tuned / "model", "-i", study.manifest.parent / "head-07.nii.gz"],
    }
    return [verb, *map(str, arguments[verb]), "-o", str(out)]


@pytest.mark.parametrize("verb", WRITERS)
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "NO_SPACE"), (errno.EROFS, "READ_ONLY")])
def test_a_disk_that_is_full_or_read_only(verb, number, code, head_study, tuned, work, capsys, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    copy = work.parent / "tuned"
    shutil.copytree(tuned, copy)
    monkeypatch.setattr(os, "fsync", fail)
    values = fails(capsys, 75, *writes(verb, head_study, copy, work / "out"))
    monkeypatch.undo()
    assert values["code"] == code
    assert str(work / "out") in values["where"]
    # At most an empty folder is left, or the line that says that a look was taken.
    assert [path.name for path in work.rglob("*") if path.is_file()] in ([], ["looks.jsonl"])
    assert no_debris(work)
    # The same command again, once there is room.
    assert main.run(writes(verb, head_study, copy, work / "out")) == 0
    assert no_debris(work)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_folder_without_leave_to_write(head_study, work):
    """As another user, so that the mode of a folder counts; root may write anywhere."""
    for folder in (work, *list(work.parents)[:2]):
        folder.chmod(0o755)
    program = "from apatite.core.commit import commit_text; from pathlib import Path; import sys\n"
    program += "from apatite.core.errors import StorageError\n"
    program += "try:\n    commit_text(Path(sys.argv[1]), 'x')\n"
    program += "except StorageError as error:\n    print(error.code); sys.exit(error.exit_code)\n"
    another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*another, sys.executable, "-c", program, str(work / "out" / "x")]
    probe = subprocess.run(
        [*another, sys.executable, "-c", "import apatite.core.commit"], check=False, capture_output=True, timeout=60
    )
    if probe.returncode != 0:
        pytest.skip("another user cannot read the interpreter or this checkout")
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (75, "READ_ONLY"), done.stderr
    assert list(work.iterdir()) == []


def test_a_folder_that_exists_is_never_overwritten(head_study, tuned, work, capsys, listing):
    (work / "out").mkdir()
    (work / "out" / "mine").write_text("keep")
    for verb in ("prepare", "calibrate"):
        values = fails(capsys, 3, *writes(verb, head_study, tuned, work / "out"))
        assert "exists already" in values["what"]
    assert listing(work) == ["out", "out/mine"]
