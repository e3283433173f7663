"""Where regions come from: stated, in the middle of a scan cut out beforehand, or found with a template."""

from dataclasses import replace

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.core.scan import Scan, stack_from_grid
from apatite.core.volume import Volume, axis_aligned_grid
from apatite.ct.boxes import BOXES
from apatite.ct.localise import Localisation
from apatite.ct.pose import HeadPose
from apatite.ct.region import RegionConfig
from apatite.ct.template import Template
from apatite.data import prepare_place
from apatite.data.prepare_place import BOX, place_region
from apatite.data.prepare_quality import quality_csv
from apatite.io.case import Case

REGION = RegionConfig(shape=(8, 12, 20), spacing_mm=(1.0, 1.5, 2.0))
CASE = Case(case_id="c1", patient_id="p", image="i.nii.gz", age=80.0)
CENTRE = BOXES[BOX].centre_mni_mm
SHIFT_MM = np.array([3.0, -7.0, 11.0])


def scan_of(edges_mm: tuple[float, float, float], middle_mm: np.ndarray) -> Scan:
    """Noise on voxels of 2×2×4 mm."""
    shape = (round(edges_mm[2] / 4), round(edges_mm[1] / 2), round(edges_mm[0] / 2))
    grid = axis_aligned_grid(shape, (2.0, 2.0, 4.0), middle_mm)
    voxels = np.random.default_rng(3).integers(-20, 80, shape).astype(np.int16)
    return Scan(voxels_hu=voxels, stack=stack_from_grid(grid))


def template(name: str, first: float, last: float) -> Template:
    grid = axis_aligned_grid((40, 50, 45), (4.0, 4.0, 4.0), np.array([0.0, -18.0, 18.0]))
    voxels = np.random.default_rng(4).normal(30, 20, grid.shape).astype(np.float32)
    return Template(name=name, volume=Volume(voxels=voxels, grid=grid), age_from_years=first, age_to_years=last)


TEMPLATES = (template("younger", 0, 72.5), template("older", 72.5, 200))


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Heads always lie shifted by 3, -7, 11 mm; which template was asked for."""
    names: list[str] = []

    def localise(scan: Scan, template: Template, *, threads: int, where: str) -> Localisation:
        names.append(f"{where} {template.name} {threads}")
        pose = np.eye(4)
        pose[:3, 3] = SHIFT_MM
        figures = {"bone_overlap": 0.4, "midline_mm": float("nan")}
        return Localisation(
            pose=HeadPose(mni_to_ras=pose),
            kind="similarity",
            confidence=figures,
            flags=("PARTIAL_FOV",),
            disagreement_mm=1.0,
        )

    monkeypatch.setattr(prepare_place, "localise", localise)
    return names


def test_a_stated_centre_counts_and_nothing_is_searched(asked):
    scan = scan_of((200, 240, 160), CENTRE)
    grid, found = place_region(scan, replace(CASE, region_centre_ras_mm=(1.0, 2.0, -3.0)), REGION, TEMPLATES)
    assert found is None
    np.testing.assert_allclose(grid.centre_ras_mm, [1, 2, -3])
    assert asked == []


def test_a_scan_cut_out_beforehand_is_taken_at_its_middle(asked):
    middle = np.array([5.0, -6.0, 7.0])
    grid, found = place_region(scan_of((24, 20, 16), middle), CASE, REGION, TEMPLATES)
    assert found is None
    np.testing.assert_allclose(grid.centre_ras_mm, middle, atol=1e-9)
    assert asked == []


def test_a_whole_head_is_found_with_the_template_for_its_age(asked):
    scan = scan_of((200, 240, 160), CENTRE + SHIFT_MM)
    grid, found = place_region(scan, CASE, REGION, TEMPLATES)
    assert asked == ["c1 older 1"]
    assert grid.shape == REGION.shape
    np.testing.assert_allclose(grid.centre_ras_mm, CENTRE + SHIFT_MM)
    assert found.centre_ras_mm == pytest.approx(tuple(CENTRE + SHIFT_MM), abs=1e-3)
    assert (found.template, found.coverage.fraction) == ("older", 1.0)
    assert found.flags == tuple(sorted({"PARTIAL_FOV", *found.quality.flags}))


def test_a_scan_that_ends_within_the_region_is_flagged(asked):
    """Half the box's height, and a little more, lies above the first slice."""
    low, high = np.array(BOXES[BOX].low_mni_mm) + SHIFT_MM, np.array(BOXES[BOX].high_mni_mm) + SHIFT_MM
    bottom = low[2] + 0.3 * (high[2] - low[2])
    x, y, _ = CENTRE + SHIFT_MM
    scan = scan_of((200, 240, 120), np.array([x, y, bottom + 60]))
    _, found = place_region(scan, CASE, REGION, TEMPLATES)
    assert found.coverage.fraction == pytest.approx(0.7, abs=0.03)
    assert "ROI_PARTIAL" in found.flags


def test_a_scan_that_does_not_show_the_region_is_named(asked):
    with pytest.raises(DataError) as caught:
        place_region(scan_of((200, 240, 80), CENTRE + SHIFT_MM + [0, 0, 90]), CASE, REGION, TEMPLATES)
    assert (caught.value.code, caught.value.where) == ("ROI_ABSENT", "c1")


def test_without_a_template_a_whole_head_has_to_say_where(asked):
    with pytest.raises(DataError) as caught:
        place_region(scan_of((200, 240, 160), CENTRE), CASE, REGION, ())
    assert caught.value.code == "ROI_ABSENT"
    assert "--template" in caught.value.fix


def test_the_table_of_quality():
    def about(similar: float | None, group: str = "complete", flags: tuple[str, ...] = ()) -> dict:
        quality = {"completeness": group, "similarity": similar, "shift_mm": 0.1, "flags": ""}
        confidence = {"bone_overlap": 0.5, "midline_mm": None}
        return {
            "template": "t",
            "flags": flags,
            "covered_fraction": 1.0,
            "quality": quality,
            "confidence": confidence,
        }

    found = {f"c{number}": about(0.5 + number / 100) for number in range(6)}
    found |= {
        "odd": about(0.9, "middle"),
        "none": about(None, "skull base"),
        "flagged": about(0.8, "complete", ("TILT",)),
    }
    lines = quality_csv(found).splitlines()
    assert lines[0] == ("case_id,template,look,flags,completeness,similarity,shift_mm,bone_overlap,midline_mm")
    looks = {line.split(",")[0]: line.split(",")[2] for line in lines[1:]}
    assert {case_id for case_id, look in looks.items() if look == "yes"} == {"c0", "odd", "none", "flagged"}
    assert lines[1] == "c0,t,yes,,complete,0.5,0.1,0.5,"
