"""Label maps from elsewhere, put on the original slices: their own grid, another one, and what is wrong with them."""

import numpy as np
import pytest
from scipy import ndimage

from apatite.core.errors import ConfigError, DataError
from apatite.core.volume import Volume, axis_aligned_grid
from apatite.ct.region import is_inside_region
from apatite.io.nifti import read_label, read_scan, viewer_grid, write_label, write_volume
from apatite.study.contestants import open_contestant
from apatite.study.judge import judge
from apatite.study.label_maps import LabelMaps, is_label_maps, on_slices


@pytest.fixture
def heads(head_study):
    prepared = head_study.open()
    return prepared, prepared.manifest.of_split("test")[:3]


def put_references(prepared, cases, folder, ending=".nii.gz"):
    """The annotation itself, as somebody's prediction on each scan's own grid."""
    for case in cases:
        scan = read_scan(prepared.manifest.image_path(case))
        label = read_label(prepared.manifest.label_path(case), scan.stack)
        write_label(folder / f"{case.case_id}{ending}", label, scan.stack)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", "_label.nii.gz"])
def test_the_reference_agrees_with_itself_inside_the_region(heads, tmp_path, ending):
    prepared, cases = heads
    put_references(prepared, cases, tmp_path, ending)
    found = open_contestant(tmp_path, "maps")
    rows = judge("maps", found.predictor.on(prepared), None, prepared.manifest, cases)["maps"]
    assert [row.case_id for row in rows if row.hu_gate is None] == [case.case_id for case in cases]
    for row, case in zip([row for row in rows if row.hu_gate is None], cases, strict=True):
        scan = read_scan(prepared.manifest.image_path(case))
        label = read_label(prepared.manifest.label_path(case), scan.stack)
        inside = is_inside_region(scan.stack, prepared.grid(prepared.cases.index(case)))
        assert row.true_positive == np.count_nonzero((label == 1) & inside)
        assert (row.false_positive, row.false_negative) == (0, 0)
        assert row.surface_dice == (1.0 if row.is_positive else None)
        assert row.predicted_mm3 == row.reference_mm3


def test_a_map_on_another_grid_is_read_where_each_pixel_lies(heads, tmp_path):
    prepared, cases = heads
    case = cases[1]
    scan = read_scan(prepared.manifest.image_path(case))
    region = prepared.grid(prepared.cases.index(case))
    fine = axis_aligned_grid((33, 61, 67), (0.7, 0.6, 0.8), region.centre_ras_mm)
    k, j, i = np.meshgrid(*(np.arange(n) for n in fine.shape), indexing="ij")
    is_in = np.linalg.norm(fine.to_ras(np.stack([i, j, k], -1).astype(float)) - region.centre_ras_mm, axis=-1) < 6
    write_volume(tmp_path / f"{case.case_id}.nii.gz", Volume(voxels=is_in.astype(np.uint8), grid=fine))
    prediction = LabelMaps(folder=tmp_path).on(prepared).predict_case(case, scan)
    assert (prediction.label_values, prediction.probability.dtype) == ((1,), np.float32)
    np.testing.assert_array_equal(prediction.is_counted, is_inside_region(scan.stack, region))
    for slice_index in range(scan.stack.shape[0]):
        rows, columns = np.meshgrid(np.arange(30.0), np.arange(34.0), indexing="ij")
        points_ijk = fine.to_ijk(scan.stack.to_ras(slice_index, np.stack([rows, columns], -1)))
        nearest = ndimage.map_coordinates(is_in.astype(np.float32), np.moveaxis(points_ijk[..., ::-1], -1, 0), order=0)
        np.testing.assert_array_equal(
            prediction.probability[0, slice_index], nearest * prediction.is_counted[slice_index]
        )
    assert 50 < prediction.probability.sum() < 2000


def test_organs_in_a_whole_volume_are_counted_everywhere(body_study, tmp_path):
    prepared = body_study.open()
    cases = prepared.manifest.of_split("test")
    put_references(prepared, cases, tmp_path)
    rows = judge("maps", LabelMaps(folder=tmp_path).on(prepared), None, prepared.manifest, cases)["maps"]
    assert [(row.case_id, row.label) for row in rows] == [("body-10", 2), ("body-10", 5), ("body-11", 2)]
    assert all(row.overlap.dice == 1.0 for row in rows)


def test_what_is_wrong_is_named(heads, tmp_path):
    prepared, cases = heads
    case = cases[0]
    scan = read_scan(prepared.manifest.image_path(case))
    maps = LabelMaps(folder=tmp_path).on(prepared)

    def code() -> str:
        with pytest.raises(DataError) as caught:
            maps.predict_case(case, scan)
        assert caught.value.where == case.case_id
        assert caught.value.fix
        return caught.value.code

    assert code() == "MISSING_FILE"
    label = np.zeros(scan.stack.shape, np.uint8)
    label[4, 14, 16] = 3
    write_label(tmp_path / f"{case.case_id}.nii.gz", label, scan.stack)
    assert code() == "BAD_LABEL"
    write_label(tmp_path / f"{case.case_id}_label.nii.gz", label, scan.stack)
    assert code() == "MISSING_FILE"  # two maps of one case
    (tmp_path / f"{case.case_id}_label.nii.gz").unlink()
    probability = Volume(voxels=np.full(scan.stack.shape, 0.3, np.float32), grid=viewer_grid(scan.stack))
    write_volume(tmp_path / f"{case.case_id}.nii.gz", probability)
    assert code() == "BAD_LABEL"
    region = prepared.grid(prepared.cases.index(case))
    small = axis_aligned_grid((4, 8, 10), (1.0, 1.25, 2.5), region.centre_ras_mm)
    write_volume(tmp_path / f"{case.case_id}.nii.gz", Volume(voxels=np.zeros(small.shape, np.uint8), grid=small))
    assert code() == "GRID_MISMATCH"
    with pytest.raises(ConfigError, match="nothing of what their values mean"):
        LabelMaps(folder=tmp_path).predict_case(case, scan)


def test_folders_are_recognised(tuned, tmp_path, heads):
    prepared, cases = heads
    assert not is_label_maps(tmp_path)
    assert not is_label_maps(tuned)
    assert not is_label_maps(tuned / "model")
    assert not is_label_maps(tmp_path / "gone")
    (tmp_path / "a_prob.nii.gz").write_bytes(b"")
    assert not is_label_maps(tmp_path)
    put_references(prepared, cases[:1], tmp_path)
    assert is_label_maps(tmp_path)
    before = LabelMaps(folder=tmp_path).digest()
    put_references(prepared, cases[1:2], tmp_path)
    assert LabelMaps(folder=tmp_path).digest() != before


def test_a_map_must_hold_whole_numbers_up_to_254(heads):
    prepared, cases = heads
    stack = read_scan(prepared.manifest.image_path(cases[0])).stack
    everywhere = np.ones(stack.shape, bool)
    for value in (-1, 255, 1.5):
        volume = Volume(voxels=np.full(stack.shape, value, np.float32), grid=viewer_grid(stack))
        with pytest.raises(DataError) as caught:
            on_slices(volume, stack, everywhere, "c")
        assert caught.value.code == "BAD_LABEL"
