"""One look at every file: what it holds, and which file is bad."""

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.io.layouts import read_layout
from apatite.io.survey import completed, survey


def test_bad_files_are_named_and_the_others_are_kept(write_image, tmp_path):
    write_image("d/images/good.nii.gz")
    label = np.zeros((5, 4, 3))
    label[0, 0, 0], label[1, 1, 1] = 2, 5
    write_image("d/labels/good.nii.gz", voxels=label)
    path = write_image("d/images/cut.nii.gz")
    path.write_bytes(path.read_bytes()[:-40])
    write_image("d/images/other.nii.gz")
    write_image("d/labels/other.nii.gz", shape=(5, 4, 2))
    manifest = read_layout(tmp_path / "d")
    found = survey(manifest)
    assert {bad["case_id"]: bad["code"] for bad in found.failures} == {"cut": "TRUNCATED", "other": "GRID_MISMATCH"}
    assert set(found.digests) == {"good"}
    assert found.label_values == (2, 5)
    filled = completed(manifest, found)
    assert {case.case_id: case.split for case in filled.cases} == {"cut": "unused", "good": "", "other": "unused"}
    assert {case.case_id: case.slice_thickness_mm for case in filled.cases}["good"] == 3.0
    assert filled.label_names == {2: "label 2", 5: "label 5"}


def test_not_one_good_file_is_an_error(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no case can be read"):
        survey(read_layout(tmp_path))
