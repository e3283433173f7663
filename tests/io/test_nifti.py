"""Where a voxel lies in the patient survives every way of storing it."""

import itertools
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid, Volume
from apatite.io.nifti import (
    read_label,
    read_scan,
    read_volume,
    sidecar_path,
    viewer_grid,
    write_label,
    write_scan,
    write_volume,
)

AXIS_ORDERS = [
    np.array(list(zip(order, flips, strict=True)))
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.3, 0.1) @ np.diag([0.5, 0.7, 3.0]), [-20.0, 31.0, 4.0]
)


def uneven_scan() -> Scan:
    """Tilted gantry, two blocks of thickness, one overlap."""
    along = np.array([0.0, 4.0, 8.0, 9.08, 16.08])
    origins = np.array([10.0, -5.0, 0.0]) + along[:, None] * np.array([0.0, 0.3, 1.0])
    stack = SliceStack(
        shape=(5, 4, 6),
        origins_ras_mm=origins,
        column_step_ras_mm=np.array([-0.5, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, -0.5, 0.0]),
        thickness_mm=np.array([4.0, 4.0, 4.0, 7.0, 7.0]),
    )
    return Scan(voxels_hu=np.arange(120).reshape(5, 4, 6).astype(np.int16), stack=stack)


def test_there_are_48_axis_orders():
    assert len({order.tobytes() for order in AXIS_ORDERS}) == 48


@pytest.mark.parametrize("affine", [np.diag([0.5, 0.7, 3.0, 1.0]), OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize(
    "order", AXIS_ORDERS, ids=lambda order: "".join(f"{int(a)}{'+' if f > 0 else '-'}" for a, f in order)
)
def test_a_point_of_the_patient_keeps_its_value(tmp_path, order, affine):
    voxels = np.random.default_rng(3).permutation(7 * 5 * 4).reshape(7, 5, 4).astype(np.int16)
    image = nib.Nifti1Image(voxels, affine)
    nib.save(image.as_reoriented(order), tmp_path / "a.nii.gz")
    scan = read_scan(tmp_path / "a.nii.gz")
    indices = np.argwhere(np.ones(voxels.shape))
    points = nib.affines.apply_affine(affine, indices)
    found = np.rint(scan.stack.to_slice_row_column(points))
    np.testing.assert_allclose(scan.stack.to_slice_row_column(points), found, atol=1e-3)
    s, r, c = found.astype(int).T
    np.testing.assert_array_equal(scan.voxels_hu[s, r, c], voxels[tuple(indices.T)])


@pytest.mark.parametrize("order", AXIS_ORDERS[::5])
def test_reading_and_writing_keeps_order_and_place(tmp_path, write_image, order):
    image = nib.load(write_image("a.nii.gz", affine=OBLIQUE)).as_reoriented(order)
    nib.save(image, tmp_path / "a.nii.gz")
    write_scan(tmp_path / "b.nii.gz", read_scan(tmp_path / "a.nii.gz"))
    again = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(image.dataobj))
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-5)
    assert not sidecar_path(tmp_path / "b.nii.gz").exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.sampled_from([np.uint8, np.int16, np.float32]),
    st.lists(st.floats(-0.4, 0.4), min_size=6, max_size=6),
    st.integers(0, 2**31),
)
def test_volumes_round_trip_bit_for_bit(tmp_path, shape, dtype, shears, seed):
    affine = np.eye(4)
    affine[:3, :3] = (
        np.diag([0.5, -0.7, 3.0]) + np.array([[0, *shears[:2]], [shears[2], 0, shears[3]], [*shears[4:], 0]]) * 0.3
    )
    affine = affine.astype(np.float32).astype(float)
    voxels = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    write_volume(tmp_path / "v.nii.gz", Volume(voxels=voxels, grid=Grid(shape=shape, ijk_to_ras=affine)))
    again = read_volume(tmp_path / "v.nii.gz")
    assert again.voxels.dtype == dtype
    np.testing.assert_array_equal(again.voxels, voxels)
    np.testing.assert_array_equal(again.grid.ijk_to_ras, affine)


def test_an_uneven_scan_comes_back_exactly(tmp_path):
    scan = uneven_scan()
    write_scan(tmp_path / "a.nii.gz", scan)
    again = read_scan(tmp_path / "a.nii.gz")
    for name in ("origins_ras_mm", "column_step_ras_mm", "row_step_ras_mm", "thickness_mm"):
        np.testing.assert_array_equal(getattr(again.stack, name), getattr(scan.stack, name))
    np.testing.assert_array_equal(again.voxels_hu, scan.voxels_hu)
    label = (scan.voxels_hu > 50).astype(np.uint8)
    write_label(tmp_path / "l.nii.gz", label, scan.stack)
    np.testing.assert_array_equal(read_label(tmp_path / "l.nii.gz", again.stack), label)


@pytest.mark.parametrize("thickness_mm", [5.0, 1.25])
def test_even_slices_that_overlap_or_leave_gaps_keep_their_thickness(tmp_path, thickness_mm):
    """Their places alone fit a regular grid; a NIfTI would call them as thick as their distance."""
    even = stack_from_grid(Grid(shape=(5, 4, 6), ijk_to_ras=np.diag([0.5, 0.7, 2.5, 1.0])))
    stack = replace(even, thickness_mm=np.full(5, thickness_mm))
    write_scan(tmp_path / "a.nii.gz", Scan(voxels_hu=np.zeros(stack.shape, np.int16), stack=stack))
    back = read_scan(tmp_path / "a.nii.gz").stack
    assert back.thickness_mm.tolist() == [thickness_mm] * 5
    np.testing.assert_allclose(back.origins_ras_mm, stack.origins_ras_mm, atol=1e-6)


def test_a_scan_that_became_even_loses_its_sidecar(tmp_path):
    scan = uneven_scan()
    write_scan(tmp_path / "a.nii.gz", scan)
    assert sidecar_path(tmp_path / "a.nii.gz").exists()
    even = Scan(voxels_hu=scan.voxels_hu, stack=stack_from_grid(viewer_grid(scan.stack)))
    write_scan(tmp_path / "a.nii.gz", even)
    np.testing.assert_allclose(
        read_scan(tmp_path / "a.nii.gz").stack.origins_ras_mm, even.stack.origins_ras_mm, atol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda v: v.pop("thickness_mm"), "BAD_AFFINE"),
        (lambda v: v["origins_ras_mm"].pop(), "BAD_AFFINE"),
        (lambda v: v["thickness_mm"].__setitem__(0, 0.0), "BAD_AFFINE"),
        (lambda v: v.__setitem__("row_step_ras_mm", v["column_step_ras_mm"]), "BAD_AFFINE"),
        (lambda v: v["origins_ras_mm"].__setitem__(1, v["origins_ras_mm"][2]), "DUP_POS"),
        (lambda v: v["origins_ras_mm"].reverse(), "GRID_MISMATCH"),
    ],
)
def test_a_wrong_sidecar_is_named(tmp_path, change, code):
    path = tmp_path / "a.nii.gz"
    write_scan(path, uneven_scan())
    values = json.loads(sidecar_path(path).read_text())
    change(values)
    sidecar_path(path).write_text(json.dumps(values))
    with pytest.raises(DataError) as caught:
        read_scan(path, "case-3")
    assert (caught.value.code, caught.value.where) == (code, "case-3")


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([-1024, 3071], np.int32, np.int16),
        ([0, 65535], np.uint16, np.float32),
        ([-1024.0, 40.0], np.float32, np.int16),
        ([-1024.0, 40.5], np.float64, np.float32),
        ([-40000.0, 40.0], np.float32, np.float32),
    ],
)
def test_hu_is_int16_only_where_nothing_is_lost(write_image, values, dtype, expected):
    scan = read_scan(write_image("a.nii.gz", voxels=np.array(values).reshape(2, 1, 1), dtype=dtype))
    assert scan.voxels_hu.dtype == expected
    np.testing.assert_array_equal(scan.voxels_hu.ravel(), np.array(values))


def test_a_label_on_another_grid_is_refused(write_image):
    stack = read_scan(write_image("image.nii.gz")).stack
    moved = np.diag([0.5, 0.7, 3.0, 1.0])
    moved[0, 3] = 0.2
    flipped = np.diag([-0.5, 0.7, 3.0, 1.0])
    for shape, affine in [((5, 4, 2), None), ((4, 5, 3), None), ((5, 4, 3), moved), ((5, 4, 3), flipped)]:
        path = write_image("label.nii.gz", voxels=np.zeros(shape), affine=affine)
        with pytest.raises(DataError) as caught:
            read_label(path, stack, "case-5")
        assert (caught.value.code, caught.value.where) == ("GRID_MISMATCH", "case-5")


@pytest.mark.parametrize(("value", "dtype"), [(0.5, np.float32), (-1, np.int16), (255, np.uint8), (1000, np.int16)])
def test_values_that_are_no_labels_are_refused(write_image, value, dtype):
    stack = read_scan(write_image("image.nii.gz")).stack
    voxels = np.zeros((5, 4, 3), dtype)
    voxels[2, 1, 0] = value
    with pytest.raises(DataError) as caught:
        read_label(write_image("label.nii.gz", voxels=voxels, dtype=dtype), stack)
    assert caught.value.code == "BAD_LABEL"


def test_whole_float_labels_are_labels(write_image):
    stack = read_scan(write_image("image.nii.gz")).stack
    label = read_label(write_image("label.nii.gz", voxels=np.full((5, 4, 3), 7.0), dtype=np.float32), stack)
    assert label.dtype == np.uint8
    assert np.all(label == 7)


def test_probabilities_must_be_finite(tmp_path):
    grid = Grid(shape=(1, 1, 2), ijk_to_ras=np.eye(4))
    with pytest.raises(DataError) as caught:
        write_volume(tmp_path / "p.nii.gz", Volume(voxels=np.array([[[0.5, np.nan]]]), grid=grid))
    assert caught.value.code == "NONFINITE"
    assert not list(tmp_path.iterdir())
