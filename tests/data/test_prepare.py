"""A cohort on disk becomes arrays; bad cases are named, and nothing is half-written."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.core.errors import ConfigError, DataError, StorageError
from apatite.core.scan import Scan
from apatite.core.volume import Grid
from apatite.ct.region import RegionConfig
from apatite.data.prepare import RECIPES, PrepareConfig, prepare
from apatite.io.manifest import Case, Manifest
from apatite.io.store import Prepared

SPLITS = ("pretrain", "finetune", "development", "test", "unused")
REGION = PrepareConfig(region=RegionConfig(shape=(4, 6, 8), spacing_mm=(1.0, 1.0, 2.0)))
VOLUME = PrepareConfig(kind="volume", spacing_mm=(1.0, 1.0, 2.0), least_shape=(6, 8, 10))
AFFINE = np.array([[0.5, 0, 0, -6], [0, 0.5, 0, -5], [0, 0, 2.0, -8], [0, 0, 0, 1]])
MIDDLE = (-0.25, -0.25, 0.0)
"""Of the scans below."""


@pytest.fixture
def cohort(tmp_path: Path) -> Manifest:
    """Ten cases of 24×20×9 voxels, two per split; each has noise of its own and two labelled boxes."""
    cases = []
    for number in range(10):
        voxels = np.random.default_rng(number).integers(-200, 800, (24, 20, 9)).astype(np.int16)
        label = np.zeros(voxels.shape, np.uint8)
        label[8:14, 8:12, 3:5] = 2
        label[16:18, 8:12, 3:5] = 5
        for name, array in (("image", voxels), ("label", label)):
            nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / f"{name}{number}.nii.gz")
        split = SPLITS[number % 5]
        is_labelled = split != "pretrain"
        cases.append(
            Case(
                case_id=f"c{number}",
                patient_id=f"p{number}",
                image=f"image{number}.nii.gz",
                label=f"label{number}.nii.gz" if is_labelled else "",
                split=split,
                annotated_labels=(2, 5) if is_labelled else (),
                region_centre_ras_mm=MIDDLE,
            )
        )
    return Manifest(root=tmp_path, cases=tuple(cases), label_names={2: "calcium", 5: "bone"})


def changed(manifest: Manifest, case_id: str, **values) -> Manifest:
    return replace(manifest, cases=tuple(replace(c, **values) if c.case_id == case_id else c for c in manifest.cases))


def test_regions(cohort, tmp_path):
    result = prepare(cohort, tmp_path / "out", REGION)
    assert result.counts == {"pretrain": 2, "finetune": 2, "development": 2, "test": 2}
    assert result.failures == ()
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.images.shape == (8, 4, 6, 8)
    assert prepared.fractions.shape == (8, 2, 4, 6, 8)
    assert [case.case_id for case in prepared.cases] == ["c0", "c1", "c2", "c3", "c5", "c6", "c7", "c8"]
    assert prepared.case_index("finetune", "test").tolist() == [1, 3, 5, 7]
    assert prepared.label_values == (2, 5)
    np.testing.assert_array_equal(prepared.is_annotated.sum(axis=1), [0, 2, 2, 2, 0, 2, 2, 2])
    assert not prepared.fractions[0].any()
    assert not prepared.images.flags.writeable
    with pytest.raises(DataError, match="no whole volume"):
        prepared.volume("c1")


def test_a_scan_much_larger_than_the_region_has_to_say_where_the_region_is(cohort, tmp_path):
    result = prepare(changed(cohort, "c1", region_centre_ras_mm=None), tmp_path / "out", REGION)
    (failure,) = result.failures
    assert (failure["case_id"], failure["code"]) == ("c1", "ROI_ABSENT")
    assert "region_centre_ras_mm" in failure["fix"]


def test_a_region_voxel_is_the_mean_of_the_original_pixels(cohort, tmp_path):
    """1 mm voxels over 0.5 mm pixels on the same lattice: by hand, each is the mean of 2×2 pixels of one slice."""
    centre = (0.25 - 0.5, 0.25 - 0.5, 0.0 + 1.0)
    manifest = changed(cohort, "c1", region_centre_ras_mm=centre)
    prepare(manifest, tmp_path / "out", REGION)
    prepared = Prepared.open(tmp_path / "out")
    row = 1
    grid = prepared.grid(row)
    np.testing.assert_allclose(grid.centre_ras_mm, centre, atol=1e-9)
    native = np.asarray(nib.load(tmp_path / "image1.nii.gz").dataobj).astype(float)
    label = np.asarray(nib.load(tmp_path / "label1.nii.gz").dataobj)
    for k, j, i in np.ndindex(prepared.images.shape[1:]):
        x, y, z = grid.to_ras(np.array([i, j, k], dtype=float))
        a, b, c = (x + 6) / 0.5, (y + 5) / 0.5, (z + 8) / 2
        low_a, low_b = int(np.floor(a)), int(np.floor(b))
        assert (a, b, c) == pytest.approx((low_a + 0.5, low_b + 0.5, round(c)))
        block = (slice(low_a, low_a + 2), slice(low_b, low_b + 2), round(c))
        assert prepared.images[row, k, j, i] == np.rint(native[block].mean()), (k, j, i)
        for plane, value in enumerate(prepared.label_values):
            assert prepared.fractions[row, plane, k, j, i] == np.rint(255 * (label[block] == value).mean())
    assert prepared.fractions[row].max() == 255


def test_whole_volumes(cohort, tmp_path):
    prepare(cohort, tmp_path / "out", VOLUME)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.kind == "volume"
    assert prepared.volume("c0").labels is None
    volume = prepared.volume("c1")
    assert volume.image.shape == volume.grid.shape == prepared.grid(1).shape
    assert volume.grid.shape == (9, 10, 12)
    index = volume.labels[:]
    assert sorted(np.unique(index)) == [0, 1, 2]
    # Boxes of 3×2×4 mm and 1×2×4 mm, at borders of the 1×1×2 mm voxels.
    assert np.count_nonzero(index == 1) * volume.grid.voxel_mm3 == pytest.approx(24)
    assert np.count_nonzero(index == 2) * volume.grid.voxel_mm3 == pytest.approx(8)
    centre = volume.grid.to_ras(np.argwhere(index == 1)[:, ::-1].mean(axis=0))
    np.testing.assert_allclose(centre, AFFINE[:3, :3] @ [10.5, 9.5, 3.5] + AFFINE[:3, 3], atol=1e-6)
    with pytest.raises(DataError, match=r"holds no images\.npy"):
        _ = prepared.images


def test_the_same_bytes_with_any_number_of_workers(cohort, tmp_path):
    for workers in (1, 2):
        prepare(cohort, tmp_path / f"out{workers}", REGION, workers)
    for name in ("images.npy", "fractions.npy", "grids.npy", "cases.csv"):
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()


def test_bad_cases_are_named_and_the_batch_goes_on(cohort, tmp_path):
    (tmp_path / "image0.nii.gz").write_bytes((tmp_path / "image0.nii.gz").read_bytes()[:-300])
    nib.save(nib.Nifti1Image(np.full((24, 20, 9), np.nan, np.float32), AFFINE), tmp_path / "image1.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((24, 20, 8), np.uint8), AFFINE), tmp_path / "label2.nii.gz")
    nib.save(nib.Nifti1Image(np.full((24, 20, 9), 3, np.uint8), AFFINE), tmp_path / "label3.nii.gz")
    (tmp_path / "label6.nii.gz").unlink()
    manifest = changed(cohort, "c7", annotated_labels=(2,))
    manifest = changed(manifest, "c5", region_centre_ras_mm=(500.0, 0.0, 0.0))
    result = prepare(manifest, tmp_path / "out", REGION)
    assert {bad["case_id"]: bad["code"] for bad in result.failures} == {
        "c0": "TRUNCATED",
        "c1": "NONFINITE",
        "c2": "GRID_MISMATCH",
        "c3": "BAD_LABEL",
        "c5": "ROI_PARTIAL",
        "c6": "MISSING_FILE",
        "c7": "BAD_LABEL",
    }
    assert all(bad["fix"] for bad in result.failures)
    prepared = Prepared.open(tmp_path / "out")
    assert [case.case_id for case in prepared.cases] == ["c8"]
    assert len(prepared.images) == len(prepared.fractions) == len(prepared.grids) == 1
    assert len(prepared.about["failures"]) == 7


def test_a_case_to_fine_tune_on_needs_a_label(cohort, tmp_path):
    result = prepare(changed(cohort, "c1", label="", annotated_labels=()), tmp_path / "out", REGION)
    assert [bad["case_id"] for bad in result.failures] == ["c1"]


def test_what_stops_everything_writes_nothing(cohort, tmp_path):
    before = sorted(tmp_path.iterdir())
    unsplit = replace(cohort, cases=tuple(replace(case, split="") for case in cohort.cases))
    same_patient = changed(cohort, "c3", patient_id="p0")
    same_image = changed(cohort, "c3", image="image0.nii.gz")
    missing = replace(cohort, cases=tuple(replace(case, image="none.nii.gz") for case in cohort.cases))
    unnamed = replace(cohort, label_names={}, cases=tuple(replace(case, annotated_labels=()) for case in cohort.cases))
    for manifest, code in [
        (unsplit, "EMPTY_SPLIT"),
        (same_patient, "LEAK"),
        (same_image, "LEAK"),
        (missing, "MISSING_FILE"),
        (unnamed, "BAD_LABEL"),
    ]:
        with pytest.raises(DataError) as caught:
            prepare(manifest, tmp_path / "out", REGION)
        assert caught.value.code == code
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("config", [REGION, VOLUME], ids=["region", "volume"])
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "NO_SPACE"), (errno.EROFS, "READ_ONLY")])
def test_a_failing_disk_leaves_nothing(cohort, tmp_path, monkeypatch, config, number, code):
    before = sorted(tmp_path.iterdir())

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as caught:
        prepare(cohort, tmp_path / "out", config)
    assert caught.value.code == code
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_folder_is_not_touched(cohort, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="exists already"):
        prepare(cohort, tmp_path / "out", REGION)


def test_the_originals_can_be_found_again(cohort, tmp_path):
    from apatite.io.nifti import read_scan

    prepare(cohort, tmp_path / "deep" / "out", REGION)
    prepared = Prepared.open(tmp_path / "deep" / "out")
    for case in prepared.cases:
        assert isinstance(read_scan(prepared.manifest.image_path(case)), Scan)
    assert isinstance(prepared.grid(0), Grid)
    assert prepared.about["domains"] == ["real"]


def test_recipes_are_whole_configs():
    assert {name: make().kind for name, make in RECIPES.items()} == {
        "region-small": "region",
        "region-paper": "region",
        "volume": "volume",
    }
    with pytest.raises(ConfigError):
        PrepareConfig(spacing_mm=(0.0, 1.0, 1.0))
