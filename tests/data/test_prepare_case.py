"""The grid around the body: nothing of it is lost, whatever way the scan is stored."""

import nibabel as nib
import numpy as np
import pytest

from apatite.core.scan import Scan, stack_from_grid
from apatite.core.volume import Grid
from apatite.data.prepare_case import body_grid, prepare_volume
from apatite.io.manifest import Case, Manifest
from apatite.io.nifti import write_label, write_scan

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.1, 0.3) @ np.diag([-1.0, 1.5, 2.0]), [20.0, -31.0, 4.0]
)


def scan_with(affine, *boxes) -> Scan:
    voxels = np.full((12, 30, 40), -1000, np.int16)
    for box in boxes:
        voxels[box] = 40
    return Scan(voxels_hu=voxels, stack=stack_from_grid(Grid(shape=voxels.shape, ijk_to_ras=affine)))


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.5, 2.0, 1.0]), np.diag([-1.0, -1.5, -2.0, 1.0]), OBLIQUE])
def test_the_body_lies_inside_and_the_table_does_not_count(affine):
    body, table = (slice(2, 9), slice(8, 20), slice(10, 30)), (slice(2, 9), slice(26, 27), slice(0, 40))
    scan = scan_with(affine, body, table)
    grid = body_grid(scan, (1.0, 1.0, 1.0), (4, 4, 4), -500.0)
    inside = np.argwhere(scan.voxels_hu[:, :24] > 0)
    points = np.concatenate([scan.stack.to_ras(k, inside[inside[:, 0] == k][:, 1:].astype(float)) for k in range(12)])
    ijk = grid.to_ijk(points)
    assert ijk.min() > -0.5
    assert np.all(ijk.max(axis=0) < np.array(grid.shape[::-1]) - 0.5)
    if affine is not OBLIQUE:
        assert np.all(np.array(grid.shape) - (14, 18, 20) <= (0, 6, 6))


def test_a_small_body_is_padded_on_all_sides():
    scan = scan_with(np.diag([1.0, 1.0, 1.0, 1.0]), (slice(4, 6), slice(8, 11), slice(10, 14)))
    grid = body_grid(scan, (1.0, 1.0, 1.0), (10, 12, 14), -500.0)
    assert grid.shape == (10, 12, 14)
    np.testing.assert_allclose(grid.centre_ras_mm, [11.5, 9.0, 4.5], atol=1.5)
    assert grid.centre_ras_mm[2] == 4.5


def test_a_scan_without_body_is_kept_whole():
    grid = body_grid(scan_with(np.diag([1.0, 1.5, 2.0, 1.0])), (1.0, 1.5, 2.0), (1, 1, 1), -500.0)
    assert grid.shape == (12, 30, 40)


def test_a_coarse_voxel_takes_the_label_that_fills_most_of_it(tmp_path):
    """By hand, 2×2 original pixels per voxel: 1 of 4 is background, 2 of 4 the label, 2 against 1 the larger."""
    scan = scan_with(np.diag([1.0, 1.0, 1.0, 1.0]), (slice(0, 12), slice(0, 30), slice(0, 40)))
    label = np.zeros(scan.voxels_hu.shape, np.uint8)
    blocks = {0: [3, 0, 0, 0], 1: [3, 3, 0, 0], 2: [3, 3, 7, 0], 3: [7, 3, 7, 0], 4: [7, 7, 7, 7], 5: [3, 7, 0, 0]}
    for place, values in blocks.items():
        label[:, 10:12, 10 + 2 * place : 12 + 2 * place] = np.reshape(values, (2, 2))
    write_scan(tmp_path / "i.nii.gz", scan)
    write_label(tmp_path / "l.nii.gz", label, scan.stack)
    case = Case(case_id="a", patient_id="p", image="i.nii.gz", label="l.nii.gz", split="finetune")
    manifest = Manifest(root=tmp_path, cases=(case,), label_names={3: "calcium", 7: "bone"})
    prepared = prepare_volume(manifest, case, (2.0, 2.0, 1.0), (1, 1, 1), -500.0)
    assert prepared.image_hu.shape == prepared.labels.shape == (12, 15, 20)
    assert np.all(prepared.image_hu == 40)
    for k in range(12):
        assert prepared.labels[k, 5, 5:11].tolist() == [0, 1, 1, 2, 2, 0]
    assert np.count_nonzero(prepared.labels) == 4 * 12
