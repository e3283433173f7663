"""Numbers of quality control: groups by hand, similarity as the peer computes it, planted metal, moved slices and
odd scans are found, sound ones are not."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack
from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.ct.boxes import BOXES
from apatite.ct.completeness import completeness, information, register
from apatite.ct.metal import metal
from apatite.ct.motion import motion, slice_shifts_mm
from apatite.ct.pose import HeadPose
from apatite.ct.quality import quality
from apatite.ct.triage import TriageRow, similarity, triage
from apatite.ct.unusual import Features, fit_reference, read_reference, region_features, write_reference

BOX = BOXES["ica"]
GRID = axis_aligned_grid((46, 55, 46), (4.0, 4.0, 4.0), np.array([0.0, -18.0, 18.0]))
"""182 × 216 × 184 mm round the head in MNI space."""


def a_pose(scale: float = 0.92) -> HeadPose:
    affine = np.diag([scale, scale, scale, 1.0])
    affine[:3, 3] = [3.0, -5.0, 40.0]
    return HeadPose(mni_to_ras=affine)


def head_hu(points_mni_mm: np.ndarray) -> np.ndarray:
    """A skull of two shells, brain within, some bone and air at the base, and air around; sharp edges."""
    x, y, z = np.moveaxis(points_mni_mm, -1, 0)
    far = np.sqrt((x / 72) ** 2 + ((y + 18) / 90) ** 2 + ((z - 5) / 78) ** 2)
    hu = np.where(far < 1.0, 900.0, np.where(far < 1.08, 20.0, -1000.0))
    hu = np.where(far < 0.92, 32 + 3 * np.sin(x / 5) * np.cos(y / 7), hu)
    hu = np.where(np.hypot(x - 30, y + 40) + np.abs(z + 30) < 22, 1100, hu)
    hu = np.where(np.hypot(x + 30, y + 40) + np.abs(z + 30) < 22, 1100, hu)
    return np.where((np.abs(x) < 9) & (np.abs(y - 14) < 9) & (np.abs(z + 30) < 8), -1000, hu)


def a_scan(
    *, low_mm: float = -70.0, high_mm: float = 80.0, spacing_mm: float = 5.0, noise_hu: float = 5.0, seed: int = 0
) -> Scan:
    """Slices of 110 × 100 pixels of 2 mm, from and to these heights in MNI mm, through `head_hu`."""
    pose = a_pose()
    count = int((high_mm - low_mm) * 0.92 / spacing_mm) + 1
    first = pose.to_ras(np.array([0.0, -18.0, low_mm]))
    row, column = np.array([0.0, -2.0, 0.0]), np.array([-2.0, 0.0, 0.0])
    stack = SliceStack(
        shape=(count, 110, 100),
        origins_ras_mm=first - row * 54.5 - column * 49.5 + np.arange(count)[:, None] * [0.0, 0.0, spacing_mm],
        column_step_ras_mm=column,
        row_step_ras_mm=row,
        thickness_mm=np.full(count, spacing_mm),
    )
    row_column = np.stack(np.meshgrid(np.arange(110.0), np.arange(100.0), indexing="ij"), axis=-1)
    points = np.stack([stack.to_ras(k, row_column) for k in range(count)])
    voxels = ndimage.gaussian_filter(head_hu(pose.to_mni(points)), (0, 0.5, 0.5))
    voxels += np.random.default_rng(seed).normal(0, noise_hu, voxels.shape)
    return Scan(voxels_hu=np.clip(np.rint(voxels), -1024, 3071).astype(np.int16), stack=stack)


def middle_slice(scan: Scan) -> int:
    """The slice through the middle of the box."""
    return round(float(scan.stack.to_slice_row_column(a_pose().to_ras(BOX.centre_mni_mm[None]))[0, 0]))


@pytest.fixture(scope="module")
def scan() -> Scan:
    return a_scan()


@pytest.fixture(scope="module")
def template() -> Volume:
    k, j, i = np.meshgrid(*(np.arange(float(n)) for n in GRID.shape), indexing="ij")
    hu = head_hu(GRID.to_ras(np.stack([i, j, k], axis=-1)))
    return Volume(voxels=hu.astype(np.float32), grid=GRID)


def test_a_registered_scan_is_the_template_it_was_made_from(scan: Scan, template: Volume) -> None:
    registered = register(scan, a_pose(), GRID)
    # Away from edges, inside what was scanned.
    is_brain = ndimage.binary_erosion((template.voxels > 20) & (template.voxels < 45), iterations=3)
    is_brain &= (GRID.to_ras(np.array([[0.0, 0.0, k] for k in range(46)]))[:, 2] < 70)[:, None, None]
    assert is_brain.sum() > 2000
    assert np.abs(registered.voxels - template.voxels)[is_brain].mean() < 5
    assert registered.grid is GRID


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        ([0.5] * 4 + [0.6] + [0.5] * 5, "incomplete"),  # the middle is index 5
        ([0.5] * 5 + [0.6] + [0.5] * 4, "complete"),
        ([0.4] * 5 + [0.6] + [0.4] * 4, "complete"),
        ([0.4] * 5 + [0.9] + [0.3] * 4, "skull base"),
        ([0.3] * 5 + [0.9] + [0.4] * 4, "skull vault"),
        # A median of 0.35 below and of 0.3 above, and of 0.5 in the sorted upper half.
        ([0.3, 0.3, 0.35, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3], "middle"),
        ([0.0] * 10, "incomplete"),
    ],
)
def test_completeness_by_hand(share: list[float], expected: str) -> None:
    assert completeness(np.array(share)) == expected


def test_the_group_follows_what_was_scanned() -> None:
    found = {}
    for name, low, high in (("all", -70, 80), ("base", -70, 5), ("vault", 25, 80), ("middle", -8, 50)):
        share = information(register(a_scan(low_mm=low, high_mm=high), a_pose(), GRID))
        # A template's field is not much larger than the head; here it is, so what counts is the share of the head.
        found[name] = completeness(share / 0.55)
    assert found == {"all": "complete", "base": "skull base", "vault": "skull vault", "middle": "middle"}


def test_information_is_the_share_above_a_twentieth_of_the_range() -> None:
    voxels = np.full((3, 4, 5), -1000.0)
    voxels[0, 0, :2] = -799.0  # of -1000 ... 3000: 200 above the lowest
    voxels[1, :2] = -801.0
    voxels[2] = 3000.0
    grid = axis_aligned_grid((3, 4, 5), (2.0, 2.0, 2.0), np.zeros(3))
    np.testing.assert_allclose(information(Volume(voxels=voxels, grid=grid)), [0.1, 0.0, 1.0])
    upside_down = Grid(shape=grid.shape, ijk_to_ras=grid.ijk_to_ras @ np.diag([1.0, 1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match="upwards"):
        information(Volume(voxels=voxels, grid=upside_down))


def test_similarity_by_the_formula_and_as_a_rank(scan: Scan, template: Volume) -> None:
    rng = np.random.default_rng(1)
    grid = axis_aligned_grid((7, 7, 7), (2.0, 2.0, 2.0), np.zeros(3))
    a, b = rng.uniform(-1000, 3000, (2, 7, 7, 7))
    # One window of 7³: the formula of Wang et al. 2004 with sample covariance.
    c1, c2 = (0.01 * 4000) ** 2, (0.03 * 4000) ** 2
    covariance = np.cov(a.ravel(), b.ravel())
    by_hand = (2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)
    by_hand /= (a.mean() ** 2 + b.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    assert similarity(Volume(voxels=a, grid=grid), Volume(voxels=b, grid=grid)) == pytest.approx(by_hand, abs=1e-5)

    askew = np.eye(4)
    askew[:3, :3] = a_pose().mni_to_ras[:3, :3] @ [[0.94, -0.34, 0], [0.34, 0.94, 0], [0, 0, 1]]
    askew[:3, 3] = a_pose().mni_to_ras[:3, 3] + [0, 15, 10]
    right, wrong = (similarity(register(scan, p, GRID), template) for p in (a_pose(), HeadPose(mni_to_ras=askew)))
    assert right > wrong + 0.05
    with pytest.raises(ValueError, match="different grids"):
        similarity(template, Volume(voxels=a, grid=grid))


def test_triage_takes_the_lowest_of_each_group_and_all_doubtful_ones() -> None:
    def row(name: str, template: str, group: str, value: float) -> TriageRow:
        return TriageRow(case_id=name, template=template, completeness=group, similarity=value)  # pyright: ignore

    rows = [row(f"a{n:02d}", "young", "complete", 0.5 + n / 100) for n in range(40)]
    rows += [row(f"b{n}", "old", "complete", 0.1 + n / 100) for n in range(3)]
    rows += [row("c1", "old", "middle", 0.9), row("c2", "old", "incomplete", math.nan)]
    assert triage(rows[::-1]) == ("c2", "b0", "a00", "a01", "c1")
    assert triage([]) == ()


def test_metal_is_counted_in_the_slices_of_the_box_only(scan: Scan) -> None:
    assert metal(scan, a_pose(), BOX).num_pieces == 0
    voxels = scan.voxels_hu.copy()
    voxels[0, 10:14, 10:14] = 3071  # the lowest slice lies below the box
    assert metal(replace(scan, voxels_hu=voxels), a_pose(), BOX).num_pieces == 0
    middle = middle_slice(scan)
    voxels[middle, 5:8, 5:9] = 3000  # 12 pixels, far to the side
    voxels[middle + 1, 8, 9] = 3050  # touches by a corner
    voxels[middle, 60, 60] = 3001
    found = metal(replace(scan, voxels_hu=voxels), a_pose(), BOX)
    assert found.num_pieces == 2
    assert found.volume_mm3 == pytest.approx(14 * 4 * 5)


def test_a_lower_limit_of_storage_is_metal_where_many_pixels_share_it(scan: Scan) -> None:
    middle = middle_slice(scan)
    voxels = scan.voxels_hu.copy()
    voxels[middle, 20, 20:25] = 2400  # five touching pixels: the densest bone
    assert metal(replace(scan, voxels_hu=voxels), a_pose(), BOX).num_pieces == 0
    voxels[middle, 20:24, 20:24] = 2400
    assert metal(replace(scan, voxels_hu=voxels), a_pose(), BOX).num_pieces == 1


def shifted(scan: Scan, slices: slice, shift_mm: tuple[float, float]) -> Scan:
    voxels = scan.voxels_hu.astype(np.float32)
    for k in range(*slices.indices(len(voxels))):
        pixels = (shift_mm[0] / scan.stack.row_spacing_mm, shift_mm[1] / scan.stack.column_spacing_mm)
        voxels[k] = ndimage.shift(voxels[k], pixels, order=1, mode="nearest")
    return replace(scan, voxels_hu=np.rint(voxels).astype(np.int16))


@pytest.mark.parametrize("shift_mm", [(1.8, 0.0), (0.0, -2.5), (-2.0, 2.0)])
def test_a_moved_slice_is_found_and_measured(scan: Scan, shift_mm: tuple[float, float]) -> None:
    still = slice_shifts_mm(scan, slice(0, scan.stack.shape[0]))
    assert still[2:-4].max() < 0.25
    moved = slice_shifts_mm(shifted(scan, slice(9, 10), shift_mm), slice(0, scan.stack.shape[0]))
    assert moved[9] == pytest.approx(np.hypot(*shift_mm), rel=0.15)
    np.testing.assert_allclose(moved[[8, 10]], np.hypot(*shift_mm) / 2, rtol=0.25)
    # From a slice on: the two slices at the step are each half way off.
    stepped = slice_shifts_mm(shifted(scan, slice(9, None), shift_mm), slice(0, scan.stack.shape[0]))
    np.testing.assert_allclose(stepped[[8, 9]], np.hypot(*shift_mm) / 2, rtol=0.3)


def test_what_the_file_states_is_no_motion(scan: Scan) -> None:
    moved = shifted(scan, slice(9, 10), (4.0, 0.0))
    origins = moved.stack.origins_ras_mm.copy()
    # The pixels lie 4 mm further along the rows, and the file says that the slice begins 4 mm before.
    origins[9] -= 4.0 * moved.stack.row_step_ras_mm / moved.stack.row_spacing_mm
    told = Scan(voxels_hu=moved.voxels_hu, stack=replace(moved.stack, origins_ras_mm=origins))
    assert slice_shifts_mm(moved, slice(0, 20))[9] > 3
    assert slice_shifts_mm(told, slice(0, 20))[9] < 0.5


def test_motion_looks_at_the_slices_of_the_box(scan: Scan) -> None:
    middle = middle_slice(scan)
    assert not motion(scan, a_pose(), BOX).is_moved
    assert motion(shifted(scan, slice(middle, middle + 1), (0.0, 3.0)), a_pose(), BOX).is_moved
    assert not motion(shifted(scan, slice(20, 21), (0.0, 3.0)), a_pose(), BOX).is_moved
    nothing = Scan(voxels_hu=np.full(scan.stack.shape, -1000, np.int16), stack=scan.stack)
    assert motion(nothing, a_pose(), BOX).shift_mm == 0
    away = HeadPose(mni_to_ras=np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 900.0], [0, 0, 0, 1]]))
    assert math.isnan(motion(scan, away, BOX).shift_mm)
    small = replace(scan.stack, column_step_ras_mm=scan.stack.column_step_ras_mm / 2)
    assert math.isnan(motion(Scan(voxels_hu=scan.voxels_hu, stack=small), a_pose(), BOX).shift_mm)


def usual(count: int = 40) -> list[Features]:
    rng = np.random.default_rng(3)
    return [
        Features(
            soft_hu=float(rng.normal(35, 3)),
            log_noise_hu=float(rng.normal(2, 0.4)),
            air_share=float(rng.uniform(0, 0.08)),
            bone_share=float(rng.uniform(0.08, 0.16)),
            log_slice_mm=float(rng.normal(1, 0.6)),
        )
        for _ in range(count)
    ]


def test_features_by_hand(scan: Scan) -> None:
    found = region_features(a_scan(noise_hu=12.0), a_pose(), BOX)
    assert found.log_noise_hu == pytest.approx(math.log(12), abs=0.25)
    assert found.soft_hu == pytest.approx(32, abs=2)
    assert found.log_slice_mm == pytest.approx(math.log(5))
    # Air is 18 × 15 of 46 × 34 mm across (its y reaches beyond the box by 2 mm), over 16 of 33 mm of height.
    assert found.air_share == pytest.approx(18 * 16 * 16 / (46 * 34 * 33), rel=0.25)


def test_the_unusual_is_named_and_the_usual_is_not() -> None:
    rows = usual()
    reference = fit_reference(rows)
    assert reference.num_cases == 40
    assert reference.limit >= 4
    assert sum(bool(reference.unusual(row)) for row in rows) <= 1
    contrast = replace(rows[0], soft_hu=90.0, bone_share=0.4)
    assert list(reference.unusual(contrast)) == ["soft_hu", "bone_share"]
    assert reference.unusual(replace(rows[0], soft_hu=math.nan)) == {"soft_hu": math.inf}


def test_a_reference_needs_enough_scans_with_tissue() -> None:
    with pytest.raises(DataError, match="19 of 19"):
        fit_reference(usual(19))
    with pytest.raises(DataError, match="40 of 41"):
        fit_reference([*usual(40), replace(usual(1)[0], air_share=math.nan)])
    with pytest.raises(DataError, match="0 of 0"):
        fit_reference([])


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, reference = tmp_path / "reference.json", fit_reference(usual())
    write_reference(path, reference)
    assert read_reference(path) == reference
    content = json.loads(path.read_text())
    for change in ({"format": 2}, {"limit": 0}, {"median": {}}, {"spread": {**content["spread"], "soft_hu": "wide"}}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(DataError, match="no reference"):
            read_reference(path)
    with pytest.raises(DataError, match="no reference"):
        read_reference(tmp_path / "none.json")


def test_quality_is_a_row_of_plain_values(scan: Scan, template: Volume) -> None:
    found = quality(scan, a_pose(), template, BOX, fit_reference(usual()))
    row = found.to_dict()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["coverage"] == 1
    assert row["metal_pieces"] == 0
    assert "MOTION" not in found.flags
    assert found.triage_row("a", "young").similarity == row["similarity"]
    base = quality(a_scan(high_mm=5.0), a_pose(), template, BOX)
    assert base.flags == ("PARTIAL_FOV",)
    assert base.unusual == {}
