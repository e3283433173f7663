"""The verb `annotate-rule`: circles in, calcium out."""

import json

import numpy as np
import pytest

from apatite.cli.main import run
from apatite.core.scan import Scan, SliceStack
from apatite.io.nifti import read_label, read_scan, write_label, write_scan

RIGHT = {"slice": 1, "centre": [3, 3], "radius_mm": 1.2, "label": 1}
LEFT = {"slice": 2, "polygon": [[2.5, 5.5], [2.5, 9.5], [6.5, 9.5], [6.5, 5.5]], "label": 2}


@pytest.fixture
def folder(tmp_path):
    """3 mm slices of pixels of 0.2 mm² with three calcified voxels in either circle, and one outside of both."""
    stack = SliceStack(
        shape=(4, 9, 11),
        origins_ras_mm=np.array([[-2.0, -2.0, 3.0 * k] for k in range(4)]),
        column_step_ras_mm=np.array([0.5, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 0.4, 0.0]),
        thickness_mm=np.full(4, 3.0),
    )
    voxels_hu = np.full(stack.shape, 40, np.int16)
    voxels_hu[1, 3, 2:5] = 130
    voxels_hu[2, 3, 6:8], voxels_hu[2, 6, 9] = 500, 500
    voxels_hu[3, 8, 10] = 500
    write_scan(tmp_path / "scan.nii.gz", Scan(voxels_hu=voxels_hu, stack=stack))
    (tmp_path / "circles.json").write_text(json.dumps({"format": 1, "circles": [RIGHT, LEFT]}))
    return tmp_path


def annotate(folder, *arguments):
    paths = ["-i", folder / "scan.nii.gz", "--circles", folder / "circles.json", "-o", folder / "label.nii.gz"]
    return run(["annotate-rule", *map(str, [*paths, *arguments])])


def test_what_is_dense_inside_a_circle_is_annotated(folder, capsys):
    assert annotate(folder, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    label = read_label(folder / "label.nii.gz", read_scan(folder / "scan.nii.gz").stack)
    # The lone voxel at (2, 6, 9) is dropped.
    assert np.argwhere(label).tolist() == [[1, 3, 2], [1, 3, 3], [1, 3, 4], [2, 3, 6], [2, 3, 7]]
    assert label.max() == 2
    assert {value: row["pixels"] for value, row in values["labels"].items()} == {"1": 3, "2": 2}
    assert values["labels"]["2"]["circled_pixels"] == 16
    assert values["labels"]["1"]["volume_mm3"] == pytest.approx(1.8)
    assert annotate(folder) == 0
    assert "label 2: 2 of 16 circled pixels, 1.2 mm³" in capsys.readouterr().out


def test_a_label_map_of_circles_gives_the_same(folder, capsys):
    assert annotate(folder) == 0
    stack = read_scan(folder / "scan.nii.gz").stack
    by_json = read_label(folder / "label.nii.gz", stack)
    circles = np.zeros(stack.shape, np.uint8)
    circles[1, 1:6, 1:6], circles[2, 3:7, 6:10] = 1, 2
    write_label(folder / "circles.nii.gz", circles, stack)
    out = str(folder / "again.nii.gz")
    paths = ["-i", str(folder / "scan.nii.gz"), "--circles", str(folder / "circles.nii.gz"), "-o", out]
    assert run(["annotate-rule", *paths]) == 0
    assert np.array_equal(read_label(folder / "again.nii.gz", stack), by_json)


def test_circles_without_a_label_take_the_flag_s(folder, capsys):
    values = {"format": 1, "circles": [{key: value for key, value in RIGHT.items() if key != "label"}]}
    (folder / "circles.json").write_text(json.dumps(values))
    assert annotate(folder, "--label", "3") == 0
    assert read_label(folder / "label.nii.gz", read_scan(folder / "scan.nii.gz").stack).max() == 3


def test_refusals_write_nothing(folder, capsys):
    (folder / "circles.json").write_text(json.dumps({"format": 1, "circles": [RIGHT, {**LEFT, "slice": 9}]}))
    assert annotate(folder, "--json") == 3
    values = json.loads(capsys.readouterr().out)
    assert (values["code"], values["where"]) == ("BAD_CIRCLE", "circles.json circle 1")
    assert not (folder / "label.nii.gz").exists()
    before = (folder / "scan.nii.gz").read_bytes()
    assert annotate(folder, "-o", str(folder / "scan.nii.gz")) == 2
    assert annotate(folder, "-o", str(folder / "label.txt")) == 2
    assert (folder / "scan.nii.gz").read_bytes() == before
