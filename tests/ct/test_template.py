"""Templates: Cormack units by hand, what is refused, and which one stands for an age."""

import math

import nibabel as nib
import numpy as np
import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.core.volume import Volume, axis_aligned_grid
from apatite.ct.template import (
    AGE_CUT_YEARS,
    Template,
    check_whole_head,
    choose_template,
    cormack_to_hu,
    read_template,
    recognised_unit,
)

GRID = axis_aligned_grid((45, 55, 46), (4.0, 4.0, 4.0), np.array([0.0, -18.0, 17.0]))


def ball_head(bone_hu: float = 900.0) -> np.ndarray:
    """A ball of brain in a shell of bone, in air."""
    kji = np.stack(np.meshgrid(*(np.arange(float(n)) for n in GRID.shape), indexing="ij"), axis=-1)
    radius = np.linalg.norm(GRID.to_ras(np.ascontiguousarray(kji[..., ::-1])) - GRID.centre_ras_mm, axis=-1)
    return np.where(radius < 66, 30.0, np.where(radius < 74, bone_hu, -1000.0)).astype(np.float32)


def hu_to_cormack(hu: np.ndarray) -> np.ndarray:
    """The forward way, from its definition: 0 is the densest air, soft tissue is spread elevenfold."""
    shifted = hu.astype(np.float64) + 124
    return np.where(shifted <= 0, shifted, np.where(shifted <= 200, 11 * shifted, shifted + 2000)) + 900


def save(path, voxels: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0).astype(np.float32), GRID.ijk_to_ras), path)


def a_template(low: float, high: float) -> Template:
    return Template(
        name=f"{low:g}", volume=Volume(voxels=ball_head(), grid=GRID), age_from_years=low, age_to_years=high
    )


@pytest.mark.parametrize(
    ("cormack", "hu"), [(0, -1024), (900, -124), (911, -123), (2594, 30), (3100, 76), (3200, 176), (3794, 770)]
)
def test_cormack_units_by_hand(cormack, hu):
    assert cormack_to_hu(np.full((1, 1, 1), float(cormack)))[0, 0, 0] == pytest.approx(hu, abs=1e-3)


def test_cormack_units_are_turned_back_when_read(tmp_path):
    save(tmp_path / "head_cormack.nii.gz", hu_to_cormack(ball_head()))
    save(tmp_path / "head.nii", ball_head())
    cormack, plain = read_template(tmp_path / "head_cormack.nii.gz"), read_template(tmp_path / "head.nii")
    np.testing.assert_allclose(cormack.volume.voxels, plain.volume.voxels, atol=1e-2)
    np.testing.assert_array_equal(plain.volume.voxels, ball_head())
    assert (cormack.name, plain.age_to_years) == ("head_cormack", math.inf)


def test_a_stated_unit_is_taken_as_stated(tmp_path):
    save(tmp_path / "head.nii", hu_to_cormack(ball_head()))
    assert read_template(tmp_path / "head.nii", unit="cormack").volume.voxels.min() == pytest.approx(-1000, abs=1e-2)
    with pytest.raises(DataError) as raised:
        read_template(tmp_path / "head.nii", unit="hu")
    assert raised.value.code == "BAD_TEMPLATE"


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (255.0, 0.0), (8000.0, 0.0), (4.0, -2.0), (3000.0, 0.0)])
def test_an_mr_image_is_in_neither_unit(scale, shift, tmp_path):
    intensity = np.where(ball_head() == 30, 0.6, np.where(ball_head() > 30, 0.1, 0.0)) * scale + shift
    assert recognised_unit(intensity) is None
    save(tmp_path / "t1.nii", intensity)
    with pytest.raises(DataError) as raised:
        read_template(tmp_path / "t1.nii")
    assert raised.value.code == "HU_RANGE"


@pytest.mark.parametrize(
    ("voxels", "what"),
    [
        (np.where(ball_head() > 300, -1000, ball_head()), "bone"),
        (np.where(ball_head() == 30, 200, ball_head()), "soft tissue"),
        (np.where(ball_head() < -500, 30, ball_head()), "air"),
    ],
)
def test_what_is_no_whole_head_is_refused(voxels, what):
    with pytest.raises(DataError, match=what) as raised:
        check_whole_head(Template(name="part", volume=Volume(voxels=voxels, grid=GRID)))
    assert raised.value.code == "BAD_TEMPLATE"


def test_a_head_elsewhere_is_refused():
    grid = axis_aligned_grid(GRID.shape, (4.0, 4.0, 4.0), np.array([0.0, -18.0, 117.0]))
    with pytest.raises(DataError, match="the carotids' region"):
        check_whole_head(Template(name="high", volume=Volume(voxels=ball_head(), grid=grid)))


def test_the_age_chooses_and_the_unknown_age_is_the_younger():
    young, old = a_template(0, AGE_CUT_YEARS), a_template(AGE_CUT_YEARS, math.inf)
    for age, chosen in ((None, young), (40.0, young), (72.4, young), (72.5, old), (95.0, old)):
        assert choose_template([old, young], age) is chosen


def test_no_template_for_an_age_is_an_error_that_does_not_tell_the_age():
    with pytest.raises(ConfigError) as raised:
        choose_template([a_template(72.5, math.inf)], 41.0)
    assert "41" not in str(raised.value)
    with pytest.raises(ConfigError, match="none"):
        choose_template([], 41.0)
