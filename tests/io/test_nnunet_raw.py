"""Written as nnU-Net raw and read back, or refused with a reason."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.io.layouts import read_layout
from apatite.io.nnunet_raw import write_nnunet_raw


def test_write_nnunet_raw_and_back(write_image, tmp_path):
    for name in "abc":
        write_image(f"data/images/{name}.nii.gz")
        write_image(f"data/labels/{name}.nii.gz", voxels=np.ones((5, 4, 3)))
    write_image("data/images/d.nii.gz")
    manifest = replace(read_layout(tmp_path / "data"), label_names={1: "calcium"})
    cases = tuple(replace(case, split="test" if case.case_id == "c" else "pretrain") for case in manifest.cases)
    manifest = replace(manifest, cases=cases)
    assert write_nnunet_raw(manifest, tmp_path / "Dataset501_Calcium") == {"imagesTr": 2, "imagesTs": 1}
    assert (tmp_path / "Dataset501_Calcium/imagesTr/a_0000.nii.gz").is_symlink()
    write_nnunet_raw(manifest, tmp_path / "copied", copy=True)
    shutil.rmtree(tmp_path / "data")
    again = read_layout(tmp_path / "copied")
    assert {case.case_id: case.split for case in again.cases} == {"a": "", "b": "", "c": "test"}
    assert all(again.image_path(case).is_file() and case.label for case in again.cases)
    assert again.label_names == {1: "calcium"}


def test_what_nnunet_cannot_hold_is_refused(write_image, tmp_path):
    write_image("data/images/a.nii.gz")
    write_image("data/labels/a.nii.gz")
    manifest = replace(read_layout(tmp_path / "data"), label_names={1: "calcium", 2: "bone"})
    partly = replace(manifest, cases=(replace(manifest.cases[0], annotated_labels=(2,)),))
    gaps = replace(manifest, label_names={1: "calcium", 3: "bone"})
    unlabelled = replace(manifest, cases=(replace(manifest.cases[0], label=""),))
    for wrong, code in [(partly, "BAD_LABEL"), (gaps, "BAD_LABEL"), (unlabelled, "EMPTY_SPLIT")]:
        with pytest.raises(DataError) as caught:
            write_nnunet_raw(wrong, tmp_path / "out")
        assert caught.value.code == code
        assert not (tmp_path / "out").exists()
