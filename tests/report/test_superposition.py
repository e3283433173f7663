import io
import math

import numpy as np
import pytest
from PIL import Image

from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.report.superposition import contact_sheets, superpose, superposition_figure, thumbnail

GRID = axis_aligned_grid((10, 20, 16), (4.0, 5.0, 6.0), np.array([0.0, -5.0, 8.0]))
CENTRE = np.array([2.0, 5.0, -4.0])
FRAME = (0xD5, 0x5E, 0x00)


def a_head(shift: int = 0) -> Volume:
    """A bright bar in front on the right, low down; 40 HU around it, air above."""
    voxels = np.full(GRID.shape, 40.0, np.float32)
    voxels[7:] = -1000
    voxels[1:4, 13 + shift : 17 + shift, 10:14] = 1000
    return Volume(voxels=voxels, grid=GRID)


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def count_near(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int(np.count_nonzero(np.abs(pixels - colour).sum(axis=-1) < 24))


def test_bone_is_summed_over_scans():
    summed = superpose([a_head(), a_head(), a_head(shift=2)])
    assert summed.num_scans == 3
    assert summed.count[2, 16, 11] == 3  # where both lie
    assert summed.count[2, 13, 11] == 2
    assert summed.count[2, 18, 11] == 1
    assert summed.count[8].max() == 0
    exact = Volume(voxels=np.full(GRID.shape, 100.0, np.float32), grid=GRID)
    assert superpose([exact]).count.min() == 1


def test_scans_on_different_grids_are_not_summed():
    other = axis_aligned_grid(GRID.shape, (4.0, 5.0, 6.5), np.zeros(3))
    with pytest.raises(ValueError, match="different grids"):
        superpose([a_head(), Volume(voxels=a_head().voxels, grid=other)])
    with pytest.raises(ValueError, match="no scan"):
        superpose([])


def test_the_sum_is_shown_with_the_patients_right_on_the_left():
    picture = superposition_figure(superpose([a_head()] * 4), np.array([9.0, 40.0, -8.0]), caption="c")
    pixels = pixels_of(picture.content)
    # The bar is the only thing that is not black inside a panel; in the axial panel it lies left of the middle, in
    # front, which is above.
    is_bar = np.abs(pixels - (255, 234, 70)).sum(axis=-1) < 60
    third = pixels.shape[1] * 2 // 3
    rows, columns = np.nonzero(is_bar[: int(0.75 * len(pixels)), third:])
    is_panel = pixels[: int(0.75 * len(pixels)), third:].sum(axis=-1) < 30
    panel_rows, panel_columns = np.nonzero(is_panel)
    assert columns.mean() < panel_columns.mean()
    assert rows.mean() < panel_rows.mean()
    assert picture.alt == "Sum of 4 registered scans on sagittal, coronal and axial slices"


def test_a_thumbnail_shows_the_side_and_the_region():
    one = thumbnail(a_head(), CENTRE, case_id="a", similarity=0.5)
    assert one.picture.shape == (20, 20 + 16)
    side, below = one.picture[10:, :20], one.picture[:, 20:]
    assert one.picture[:10, :20].max() == 0  # 10 rows of height below 20 of depth: padded above
    # Midline, x = 0: no bar there, but brain below and air above.
    assert side[0].max() == 0
    assert side[-1].max() == 61  # 240 of 1000 HU
    # Row 0 of the region is the front; the bar is in front, on the patient's right, which is on the left.
    rows, columns = np.nonzero(below == 255)
    assert (rows.min(), rows.max()) == (3, 6)
    assert (columns.min(), columns.max()) == (2, 5)


def test_a_grid_stored_the_other_way_round_gives_the_same_thumbnail():
    flipped = Grid(shape=GRID.shape, ijk_to_ras=GRID.ijk_to_ras @ np.diag([-1.0, -1.0, 1.0, 1.0]))
    affine = flipped.ijk_to_ras.copy()
    affine[:3, 3] = GRID.to_ras(np.array([15.0, 19.0, 0.0]))
    stored = Volume(voxels=a_head().voxels[:, ::-1, ::-1].copy(), grid=Grid(shape=GRID.shape, ijk_to_ras=affine))
    first, second = (thumbnail(v, CENTRE, case_id="a", similarity=0.5) for v in (a_head(), stored))
    assert np.array_equal(first.picture, second.picture)
    turned = Grid(shape=GRID.shape, ijk_to_ras=GRID.ijk_to_ras[:, [1, 0, 2, 3]])
    with pytest.raises(ValueError, match="along the axes"):
        thumbnail(Volume(voxels=a_head().voxels, grid=turned), CENTRE, case_id="a", similarity=0.5)


def test_two_hundred_scans_stand_on_one_sheet_flagged_ones_first_and_framed():
    shown = [
        thumbnail(
            a_head(),
            CENTRE,
            case_id=f"s-{n:012x}",
            similarity=math.nan if n == 150 else n / 200,
            flags=("REG_LOWCONF", "METAL") if n in (7, 120) else (),
        )
        for n in range(201)
    ]
    sheets = contact_sheets(shown)
    assert len(sheets) == 2
    assert sheets[0].caption.startswith("Sheet 1 of 2: 200 scans, first 2 flagged ones")
    pixels = pixels_of(sheets[0].content)
    tile = pixels.shape[1] // 10
    # The frames are on the first two tiles and nowhere else.
    assert count_near(pixels[:tile, :tile], FRAME) > 300
    assert count_near(pixels[:tile, tile : 2 * tile], FRAME) > 300
    assert count_near(pixels, FRAME) == count_near(pixels[: tile * 2, : 2 * tile], FRAME)
    (last,) = contact_sheets(shown[:1])
    assert count_near(pixels_of(last.content), FRAME) == 0
    assert contact_sheets([]) == []
