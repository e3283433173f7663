"""`apatite index` on published data sets: the division is theirs, and nothing on the command line changes it."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import nibabel as nib
import numpy as np
import pytest

from apatite.cli import main
from apatite.cli.index import Index
from apatite.io.layouts import DICOM, LAYOUTS, PUBLISHED
from apatite.io.layouts.acdc import from_acdc
from apatite.io.layouts.msd import BRATS, from_msd
from apatite.io.manifest import read_manifest
from apatite.io.nifti import read_volume

AFFINE = np.diag([0.8, 0.9, 3.0, 1.0])


def save(path: Path, seed: int, channels: tuple[int, ...] = (), values: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    voxels = draw.integers(0, values, (5, 4, 3, *channels)).astype(np.uint8 if values < 20 else np.int16)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)


def index(capsys, *arguments) -> tuple[int, dict]:
    code = main.run(["index", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def abdomen(tmp_path: Path) -> Path:
    for number, name in enumerate(PUBLISHED["synapse"].patients):
        save(tmp_path / "Training" / "img" / f"{name}.nii.gz", number, values=900)
        save(tmp_path / "Training" / "label" / f"{name.replace('img', 'label')}.nii.gz", number, values=14)
    return tmp_path / "Training"


@pytest.fixture
def brats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six patients with four channels each, under a division of their own."""
    names = tuple(f"BRATS_{number:03d}" for number in range(1, 7))
    split = replace(
        PUBLISHED["msd_brats"],
        patients=names,
        test=frozenset(names[:1]),
        unused=frozenset(names[5:]),
        num_development=1,
    )
    monkeypatch.setitem(PUBLISHED, "msd_brats", split)
    monkeypatch.setitem(LAYOUTS, "msd_brats", partial(from_msd, BRATS, split))
    for number, name in enumerate(names):
        save(tmp_path / "Task01" / "imagesTr" / f"{name}.nii.gz", number, (4,), 900)
        save(tmp_path / "Task01" / "labelsTr" / f"{name}.nii.gz", number)
    about = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "numTraining": 6,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
    }
    (tmp_path / "Task01" / "dataset.json").write_text(json.dumps(about))
    return tmp_path / "Task01"


def test_every_layout_is_offered():
    assert set(get_args(get_type_hints(Index)["layout"])) == {"auto", DICOM, *LAYOUTS}


def test_every_layout_is_listed(capsys):
    assert main.run(["list", "layouts", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["layouts"]
    assert [name for name in listed if name.startswith("index ")] == [f"index --layout {name}" for name in LAYOUTS]
    assert all(listed.values())
    assert "12 held out" in listed["index --layout synapse"]


def test_synapse_keeps_its_division(abdomen, tmp_path, capsys):
    code, values = index(capsys, "-i", abdomen, "-o", tmp_path / "m.csv", "--layout", "synapse")
    assert code == 0
    assert values["splits"] == {"pretrain": 0, "finetune": 16, "development": 2, "test": 12, "unused": 0}
    manifest = read_manifest(tmp_path / "m.csv")
    assert {case.case_id for case in manifest.of_split("test")} == set(PUBLISHED["synapse"].test)
    assert manifest.label_names[13] == "left adrenal gland"


def test_an_unreadable_case_ends_the_command_since_a_published_division_is_whole(abdomen, tmp_path, capsys):
    (abdomen / "img" / "img0005.nii.gz").write_bytes(b"gone")
    code, values = index(capsys, "-i", abdomen, "-o", tmp_path / "m.csv", "--layout", "btcv")
    assert (code, values["code"]) == (3, "SPLIT_DIFFERS")
    assert "img0005" in values["what"]
    assert not (tmp_path / "m.csv").exists()


def test_a_label_that_the_data_set_does_not_have_is_no_new_organ(abdomen, tmp_path, capsys):
    path = abdomen / "label" / "label0005.nii.gz"
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = 200
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    code, values = index(capsys, "-i", abdomen, "-o", tmp_path / "m.csv", "--layout", "btcv")
    assert (code, values["code"]) == (3, "BAD_LABEL")
    assert "200" in values["what"]


@pytest.mark.parametrize("twin", ["img/img0001.nii", "img/old/img0001.nii.gz"])
def test_two_files_of_one_case_are_refused(abdomen, tmp_path, capsys, twin):
    image = nib.load(abdomen / "img" / "img0001.nii.gz")
    (abdomen / twin).parent.mkdir(exist_ok=True)
    nib.save(image, abdomen / twin)
    code, values = index(capsys, "-i", abdomen, "-o", tmp_path / "m.csv", "--layout", "synapse")
    assert (code, values["code"]) == (3, "SPLIT_DIFFERS")
    assert "which are one case" in values["what"]


@pytest.mark.parametrize(
    "flag",
    [
        ["--labelled", 4],
        ["--labelled-fraction", 0.5],
        ["--test", 0.2],
        ["--development", 0.3],
        ["--folds", 3],
        ["--seed", 1],
        ["--label-names", "1=liver"],
    ],
)
def test_what_would_change_the_division_is_refused(abdomen, tmp_path, capsys, flag):
    code, values = index(capsys, "-i", abdomen, "-o", tmp_path / "m.csv", "--layout", "synapse", *flag)
    assert (code, flag[0] in values["what"]) == (2, True)
    assert not (tmp_path / "m.csv").exists()


def test_a_channel_is_chosen_by_name(brats, tmp_path, capsys):
    out = tmp_path / "study" / "m.csv"
    code, values = index(capsys, "-i", brats, "-o", out, "--layout", "msd_brats")
    assert (code, "FLAIR" in values["fix"]) == (2, True)
    code, values = index(capsys, "-i", brats, "-o", out, "--layout", "msd_brats", "--channel", "T2w")
    assert (code, values["failures"]) == (0, [])
    assert values["notes"] == ["the images are the channel T2w alone"]
    assert values["splits"] == {"pretrain": 0, "finetune": 3, "development": 1, "test": 1, "unused": 1}
    manifest = read_manifest(out)
    for case in manifest.cases:
        assert case.image == f"m.t2w/{case.case_id}.nii.gz"
        stored = np.asarray(
            nib.Nifti1Image.from_filename(brats / "imagesTr" / f"{case.case_id.upper()}.nii.gz").dataobj
        )
        np.testing.assert_array_equal(read_volume(manifest.image_path(case)).voxels, stored[..., 3].T)


def test_wrong_voxel_sizes_of_acdc_are_mended_and_said(tmp_path, capsys, monkeypatch):
    names = ("patient001", "patient002", "patient003")
    split = replace(PUBLISHED["acdc"], patients=names, test=frozenset(names[:1]), num_development=1)
    monkeypatch.setitem(PUBLISHED, "acdc", split)
    monkeypatch.setitem(LAYOUTS, "acdc", partial(from_acdc, split))
    for number, name in enumerate(names):
        for frame in (1, 7):
            for end, values in (("", 900), ("_gt", 4)):
                path = tmp_path / "training" / name / f"{name}_frame{frame:02d}{end}.nii.gz"
                save(path, 10 * number + frame, values=values)
                if name == "patient002":
                    image = nib.Nifti1Image.from_filename(path)
                    voxels = np.asarray(image.dataobj)
                    image = nib.Nifti1Image(voxels, AFFINE)
                    image.set_sform(np.eye(4), code=1)
                    nib.save(image, path)
        (tmp_path / "training" / name / "Info.cfg").write_text("ED: 1\nES: 7\n")
    out = tmp_path / "m.csv"
    code, values = index(capsys, "-i", tmp_path / "training", "-o", out, "--layout", "acdc")
    assert (code, values["failures"]) == (0, [])
    assert values["notes"] == [f"4 files state two voxel sizes; those of pixdim: {tmp_path / 'm.sizes'}"]
    manifest = read_manifest(out)
    for case in manifest.cases:
        assert case.image.startswith("m.sizes/") == (case.patient_id == "patient002")
        assert case.slice_thickness_mm == 3.0
        np.testing.assert_allclose(read_volume(manifest.image_path(case)).grid.spacing_mm, (0.8, 0.9, 3.0), rtol=1e-6)


def test_a_channel_of_images_with_one_is_refused(abdomen, tmp_path, capsys):
    for layout in ("synapse", "folder", "dicom"):
        code, values = index(capsys, "-i", abdomen, "-o", tmp_path / "m.csv", "--layout", layout, "--channel", "FLAIR")
        assert (code, "--channel" in f"{values['what']} {values['fix']}") == (2, True)
