"""Localisation: a head of plain shapes and a real one are found under known poses; what is no head is refused.

The head of shapes was drawn for these tests alone. The one that is scanned and the one that serves as template differ
in skull, size, texture and position. The real one has no truth: it is compared with an independent registration.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.ct.boxes import BOXES
from apatite.ct.localise import localise
from apatite.ct.pose import HeadPose
from apatite.ct.template import Template, read_template

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ICA = BOXES["ica"]

MNI_GRID = axis_aligned_grid((60, 72, 60), (3.0, 3.0, 3.0), np.array([0.0, -18.0, 18.0]))


@dataclass(frozen=True, kw_only=True)
class Head:
    """What may differ between two heads."""

    skull_mm: float = 7.0
    bone_hu: float = 900.0
    brain_hu: float = 32.0
    marker_side: float = 1.0

    def hu(self, points_mni: np.ndarray) -> np.ndarray:
        """HU at points."""
        x, y, z = points_mni[..., 0], points_mni[..., 1], points_mni[..., 2]
        outer = radius(x, y + 16, z - 8, 82, 98, 86)
        skull = radius(x, y + 16, z - 8, 76, 92, 80)
        inner = radius(x, y + 16, z - 8, 76 - self.skull_mm, 92 - self.skull_mm, 80 - self.skull_mm)
        face = radius(x, y - 55, z + 55, 55, 40, 60)
        neck = ((x / 55) ** 2 + ((y + 25) / 60) ** 2 < 1) & (z < -30)
        hu = np.where((outer < 1) | (face < 1) | neck, 45.0, -1000.0)
        hu = np.where(skull < 1, self.bone_hu, hu)
        hu = np.where(inner < 1, self.brain_hu, hu)
        for side in (-1.0, 1.0):
            petrous = radius(x - side * (35 + 0.6 * (y + 20)), y + 20, z + 38, 9, 30, 10)
            orbit = radius(x - side * 30, y - 55, z + 35, 17, 20, 16)
            mastoid = radius(x - side * 55, y + 35, z + 48, 11, 14, 16)
            jaw = radius(x - side * 42, y - 30, z + 78, 8, 22, 14)
            hu = np.where((petrous < 1) | (jaw < 1), self.bone_hu, hu)
            hu = np.where(orbit < 1, -60.0, hu)
            hu = np.where(mastoid < 1, -500.0, hu)
        hu = np.where(radius(x, y + 30, z + 52, 16, 26, 12) < 1, 0.8 * self.bone_hu, hu)
        hu = np.where(radius(x, y + 35, z + 66, 12, 14, 30) < 1, 0.6 * self.bone_hu, hu)
        hu = np.where(radius(x, y - 14, z + 43, 14, 16, 12) < 1, -1000.0, hu)
        hu = np.where(radius(x, y - 60, z + 62, 12, 30, 26) < 1, -1000.0, hu)
        return np.where(radius(x - self.marker_side * 50, y + 60, z + 20, 7, 7, 7) < 1, self.bone_hu, hu)


def radius(x: np.ndarray, y: np.ndarray, z: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """Below 1 inside an ellipsoid."""
    return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2


def template_of(head: Head) -> Template:
    """A head on a 3 mm grid of MNI space."""
    kji = np.stack(np.meshgrid(*(np.arange(float(n)) for n in MNI_GRID.shape), indexing="ij"), axis=-1)
    voxels = head.hu(MNI_GRID.to_ras(np.ascontiguousarray(kji[..., ::-1]))).astype(np.float32)
    return Template(name="shapes", volume=Volume(voxels=voxels, grid=MNI_GRID))


def scan_of(head: Head, pose: HeadPose, stack: SliceStack) -> Scan:
    """A head under a pose, at the pixel centres of a stack."""
    row_column = np.stack(np.meshgrid(*(np.arange(float(n)) for n in stack.shape[1:]), indexing="ij"), axis=-1)
    slices = [head.hu(pose.to_mni(stack.to_ras(k, row_column))) for k in range(stack.shape[0])]
    return Scan(voxels_hu=np.rint(np.stack(slices)).astype(np.int16), stack=stack)


def axial_stack(heights_mm: np.ndarray, *, tilt_deg: float = 0.0, edge: int = 96, pixel_mm: float = 2.5) -> SliceStack:
    """Slices round the origin, tilted about x."""
    tilt = np.deg2rad(tilt_deg)
    row = pixel_mm * np.array([0.0, -np.cos(tilt), -np.sin(tilt)])
    column = np.array([-pixel_mm, 0.0, 0.0])
    corner = -(row + column) * (edge - 1) / 2
    return SliceStack(
        shape=(len(heights_mm), edge, edge),
        origins_ras_mm=corner + heights_mm[:, None] * np.array([0.0, 0.0, 1.0]),
        column_step_ras_mm=column,
        row_step_ras_mm=row,
        thickness_mm=np.full(len(heights_mm), 4.0),
    )


TEMPLATE = template_of(Head())
SUBJECT = Head(skull_mm=6.0, bone_hu=1100.0, brain_hu=28.0)
HEIGHTS_MM = np.concatenate([np.arange(-76.0, -20.0, 4.0), np.arange(-20.0, 90.0, 7.0)])


def a_pose(turns_deg: tuple[float, float, float], scales: tuple[float, float, float] = (0.97, 0.92, 0.9)) -> HeadPose:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turns_deg, degrees=True).as_matrix() @ np.diag(scales)
    matrix[:3, 3] = (4.0, 6.0, -9.0)
    return HeadPose(mni_to_ras=matrix)


def centre_error_mm(found: HeadPose, truth: HeadPose) -> float:
    return float(np.linalg.norm(found.to_ras(ICA.centre_mni_mm) - truth.to_ras(ICA.centre_mni_mm)))


def corner_error_mm(found: HeadPose, truth: HeadPose) -> float:
    return float(np.linalg.norm(found.to_ras(ICA.corners_mni_mm) - truth.to_ras(ICA.corners_mni_mm), axis=-1).max())


@pytest.mark.parametrize("turns_deg", [(0.0, 0.0, 0.0), (-20.0, 12.0, 25.0)])
def test_a_turned_head_in_tilted_uneven_slices_is_found(turns_deg):
    truth = a_pose(turns_deg)
    found = localise(scan_of(SUBJECT, truth, axial_stack(HEIGHTS_MM, tilt_deg=15.0)), TEMPLATE, threads=1)
    assert found.kind == "affine"
    assert found.flags == ()
    assert centre_error_mm(found.pose, truth) < 2.0
    assert corner_error_mm(found.pose, truth) < 3.0


def test_part_of_a_head_gets_a_similarity_and_says_so():
    truth = a_pose((8.0, -5.0, 10.0), scales=(0.93, 0.93, 0.93))
    found = localise(scan_of(SUBJECT, truth, axial_stack(np.arange(-76.0, -4.0, 4.0))), TEMPLATE, threads=1)
    assert found.kind == "similarity"
    assert "PARTIAL_FOV" in found.flags
    assert found.pose.scales[0] == pytest.approx(found.pose.scales[2])
    assert centre_error_mm(found.pose, truth) < 3.0


def test_a_vault_alone_is_not_trusted():
    scan = scan_of(SUBJECT, a_pose((0.0, 0.0, 0.0)), axial_stack(np.arange(20.0, 90.0, 5.0)))
    found = localise(scan, TEMPLATE, threads=1)
    assert set(found.flags) == {"REG_LOWCONF", "PARTIAL_FOV"}
    assert found.confidence["region_seen_share"] < 0.5


def test_the_result_does_not_depend_on_threads_or_on_the_run():
    scan = scan_of(SUBJECT, a_pose((10.0, 5.0, -8.0)), axial_stack(HEIGHTS_MM))
    first, two = (localise(scan, TEMPLATE, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(first.pose.mni_to_ras, two.pose.mni_to_ras)
    assert first.confidence == two.confidence
    other = localise(scan, TEMPLATE, seed=7, threads=1)
    assert 0 < centre_error_mm(other.pose, first.pose) < 0.5


def test_another_order_of_the_axes_gives_the_same_pose():
    grid = axis_aligned_grid((56, 66, 60), (3.1, 3.3, 2.9), np.array([3.0, -10.0, 4.0]))
    head = scan_of(SUBJECT, a_pose((10.0, 5.0, -8.0)), stack_from_grid(grid)).voxels_hu
    plain = localise(re_encoded(head, grid, (0, 1, 2), (False,) * 3), TEMPLATE, threads=1)
    other = localise(re_encoded(head, grid, (2, 0, 1), (False, True, True)), TEMPLATE, threads=1)
    assert corner_error_mm(other.pose, plain.pose) < 0.1
    assert other.flags == plain.flags


def re_encoded(voxels: np.ndarray, grid: Grid, order: tuple[int, ...], flips: tuple[bool, ...]) -> Scan:
    """The same content with its array axes in another order, some of them turned round."""
    affine = grid.ijk_to_ras.copy()
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, 2 - axis] * (voxels.shape[axis] - 1)
            affine[:3, 2 - axis] *= -1
            voxels = np.flip(voxels, axis)
    affine[:3, :3] = affine[:3, [2 - axis for axis in order][::-1]]
    voxels = np.ascontiguousarray(voxels.transpose(order))
    stack = stack_from_grid(Grid(shape=(voxels.shape[0], voxels.shape[1], voxels.shape[2]), ijk_to_ras=affine))
    return Scan(voxels_hu=voxels, stack=stack)


def test_left_stays_left():
    """A marker on one side of the scan only: its mapped x has the sign of that side, however the head is turned."""
    truth = a_pose((0.0, 0.0, 20.0))
    found = localise(scan_of(SUBJECT, truth, axial_stack(HEIGHTS_MM)), TEMPLATE, threads=1)
    marker = truth.to_ras(np.array([50.0, -60.0, -20.0]))
    assert found.pose.to_mni(marker)[0] == pytest.approx(50, abs=4)


@pytest.mark.parametrize("hu", [-1000, 40])
def test_what_shows_no_head_is_refused(hu):
    stack = axial_stack(np.arange(-40.0, 40.0, 5.0))
    with pytest.raises(DataError) as raised:
        localise(Scan(voxels_hu=np.full(stack.shape, hu, np.int16), stack=stack), TEMPLATE, where="case 3")
    assert (raised.value.code, raised.value.where) == ("REG_FAIL", "case 3")


def test_a_head_turned_beyond_the_gate_is_refused():
    truth = a_pose((52.0, 0.0, 0.0))
    with pytest.raises(DataError) as raised:
        localise(scan_of(SUBJECT, truth, axial_stack(HEIGHTS_MM)), TEMPLATE, threads=1)
    assert raised.value.code == "REG_FAIL"


# The real head: centre of the carotids' box under two independent registrations to the same template, RAS mm.
GREEDY_RAS_MM = (7.28, 21.50, 15.43)
SIMPLEITK_RAS_MM = (7.21, 21.51, 15.07)


@pytest.fixture(scope="module")
def real_head() -> Scan:
    """28 slices of a real head: 18.5° tilt, 14 of 4 mm, then 14 of 7 mm."""
    folder = SHARED / "head_ct_ge" / "dicom"
    if not folder.is_dir():
        pytest.skip(f"the real head CT is not at {folder}")
    import pydicom

    files = sorted((pydicom.dcmread(path) for path in folder.glob("*.dcm")), key=lambda f: f.ImagePositionPatient[2])
    to_ras = np.diag([-1.0, -1.0, 1.0])
    along, down = (to_ras @ np.array(files[0].ImageOrientationPatient[n : n + 3], float) for n in (0, 3))
    voxels = np.stack([f.pixel_array * float(f.RescaleSlope) + float(f.RescaleIntercept) for f in files])
    stack = SliceStack(
        shape=voxels.shape,
        origins_ras_mm=np.array([to_ras @ np.array(f.ImagePositionPatient, float) for f in files]),
        column_step_ras_mm=along * float(files[0].PixelSpacing[1]),
        row_step_ras_mm=down * float(files[0].PixelSpacing[0]),
        thickness_mm=np.array([float(f.SliceThickness) for f in files]),
    )
    return Scan(voxels_hu=voxels.astype(np.int16), stack=stack, is_padding=voxels <= -1500)


@pytest.fixture(scope="module")
def real_template() -> Template:
    """The older-adult head-CT template, in Cormack units."""
    path = SHARED / "templates" / "scct.nii.gz"
    if not path.exists():
        pytest.skip(f"the template is not at {path}")
    return read_template(path)


def test_a_real_head_agrees_with_two_independent_registrations(real_head, real_template):
    found = localise(real_head, real_template)
    assert (found.kind, found.flags) == ("affine", ())
    centre = found.pose.to_ras(ICA.centre_mni_mm)
    assert np.linalg.norm(centre - GREEDY_RAS_MM) < 1.0
    assert np.linalg.norm(centre - SIMPLEITK_RAS_MM) < 1.0
    np.testing.assert_allclose(found.pose.scales, [1.01, 0.93, 0.86], atol=0.03)
    assert found.confidence["sinus_air_share"] > 0.2
    assert found.disagreement_mm < 3


def test_a_real_head_turned_in_space_turns_its_pose(real_head, real_template):
    turn = Rotation.from_euler("xyz", [20, -12, 22], degrees=True).as_matrix()
    stack = real_head.stack
    turned = replace(
        stack,
        origins_ras_mm=stack.origins_ras_mm @ turn.T,
        column_step_ras_mm=turn @ stack.column_step_ras_mm,
        row_step_ras_mm=turn @ stack.row_step_ras_mm,
    )
    found = localise(replace(real_head, stack=turned), real_template)
    plain = np.array(GREEDY_RAS_MM)
    assert np.linalg.norm(found.pose.to_ras(ICA.centre_mni_mm) - turn @ plain) < 1.2
    assert found.flags == ()


def test_a_real_skull_base_alone_is_not_stretched(real_head, real_template):
    stack, slices = real_head.stack, 14
    part = replace(
        stack,
        shape=(slices, *stack.shape[1:]),
        origins_ras_mm=stack.origins_ras_mm[:slices],
        thickness_mm=stack.thickness_mm[:slices],
    )
    base = Scan(voxels_hu=real_head.voxels_hu[:slices], stack=part, is_padding=real_head.is_padding[:slices])
    found = localise(base, real_template)
    assert found.kind == "similarity"
    assert "PARTIAL_FOV" in found.flags
    assert np.linalg.norm(found.pose.to_ras(ICA.centre_mni_mm) - GREEDY_RAS_MM) < 3.0


def test_a_real_vault_alone_is_not_trusted(real_head, real_template):
    stack = real_head.stack
    part = replace(
        stack,
        shape=(12, *stack.shape[1:]),
        origins_ras_mm=stack.origins_ras_mm[16:],
        thickness_mm=stack.thickness_mm[16:],
    )
    scan = Scan(voxels_hu=real_head.voxels_hu[16:], stack=part, is_padding=real_head.is_padding[16:])
    assert "REG_LOWCONF" in localise(scan, real_template).flags
