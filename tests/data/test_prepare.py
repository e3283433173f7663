"""A cohort on disk becomes arrays; bad cases are named, and nothing is half-written."""

import csv
import errno
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.batch.lease import hold
from apatite.core.errors import ConfigError, DataError, StoppedError, StorageError
from apatite.core.scan import Scan
from apatite.core.volume import Grid
from apatite.ct.decisions import Decision
from apatite.ct.region import RegionConfig
from apatite.data import prepare_join
from apatite.data.prepare import RECIPES, PrepareConfig, PrepareWith, prepare
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
    for workers in (0, 2):
        prepare(cohort, tmp_path / f"out{workers}", REGION, workers)
    assert contents(tmp_path / "out0") == contents(tmp_path / "out2")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, and the rows without their times."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    rows = [row | {"elapsed_s": ""} for row in rows_of(folder)]
    return files | {"rows.csv": str(rows).encode()}


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "rows.csv").read_text().splitlines()))


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
        "synapse": "volume",
        "btcv": "volume",
        "acdc": "volume",
        "msd_lung": "volume",
        "msd_brats": "volume",
    }
    with pytest.raises(ConfigError):
        PrepareConfig(spacing_mm=(0.0, 1.0, 1.0))


def rejection(case_id: str) -> Decision:
    return Decision(case_id=case_id, decision="reject", reason="moved", who="reviewer 1", when="2026-03-01T09:30:00")


def test_every_case_of_the_manifest_ends_in_one_row(cohort, tmp_path):
    (tmp_path / "label6.nii.gz").unlink()
    result = prepare(cohort, tmp_path / "out", REGION, given=PrepareWith(decisions=(rejection("c2"),)))
    rows = rows_of(tmp_path / "out")
    assert [row["case_id"] for row in rows] == [f"c{number}" for number in range(10)]
    assert {row["case_id"]: row["verdict"] for row in rows if row["verdict"] != "done"} == {
        "c2": "rejected",
        "c4": "unused",
        "c6": "failed",
        "c9": "unused",
    }
    assert (rows[2]["code"], rows[2]["what"]) == ("REJECTED", "was rejected by a reviewer")
    assert (rows[6]["code"], rows[6]["attempts"]) == ("MISSING_FILE", "1")
    assert [bad["case_id"] for bad in result.failures] == ["c6"]
    assert result.num_rejected == 1
    assert [case.case_id for case in Prepared.open(tmp_path / "out").cases] == ["c0", "c1", "c3", "c5", "c7", "c8"]


def test_a_decision_on_an_unknown_case_is_refused(cohort, tmp_path):
    with pytest.raises(DataError, match="c11"):
        prepare(cohort, tmp_path / "out", REGION, given=PrepareWith(decisions=(rejection("c11"),)))
    assert not (tmp_path / "out").exists()


def test_cases_that_the_index_set_aside_keep_their_reason(cohort, tmp_path):
    manifest = changed(cohort, "c2", split="unused", verdict="set aside", codes=("LOCALIZER",))
    manifest = changed(manifest, "c7", split="unused", verdict="refused", codes=("NO_HU", "TILT"))
    manifest = changed(manifest, "c8", codes=("TILT",))
    result = prepare(manifest, tmp_path / "out", REGION)
    rows = {row["case_id"]: row for row in rows_of(tmp_path / "out")}
    assert len(rows) == 10
    assert (rows["c2"]["verdict"], rows["c2"]["code"], rows["c2"]["what"]) == (
        "set aside",
        "LOCALIZER",
        "is a localizer",
    )
    assert (rows["c7"]["verdict"], rows["c7"]["code"], rows["c7"]["flags"]) == ("refused", "NO_HU", "TILT")
    assert (rows["c8"]["verdict"], rows["c8"]["code"], rows["c8"]["flags"]) == ("done", "", "TILT")
    assert result.failures == ()


def stopped_after(count: int):
    """A watch during which somebody presses Ctrl-C."""

    def watch(rows, stage, total=None):
        for number, row in enumerate(rows, start=1):
            if number == count:
                os.kill(os.getpid(), signal.SIGINT)
            yield row

    return watch


@pytest.mark.parametrize("config", [REGION, VOLUME], ids=["region", "volume"])
def test_what_was_stopped_goes_on_and_ends_the_same(cohort, tmp_path, config):
    prepare(cohort, tmp_path / "whole", config)
    with pytest.raises(StoppedError, match="SIGINT after 3 of 8 cases"):
        prepare(cohort, tmp_path / "out", config, watch=stopped_after(3))
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.unfinished").exists()
    begun = []

    def note(rows, stage, total=None):
        for row in rows:
            begun.append(row.case_id)
            yield row

    with pytest.raises(StoppedError, match="after 5 of 8"):
        prepare(cohort, tmp_path / "out", config, watch=stopped_after(5))
    prepare(cohort, tmp_path / "out", config, watch=note)
    assert begun[:5] == ["c0", "c1", "c2", "c3", "c5"]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / ".out.unfinished").exists()


def test_what_changed_meanwhile_is_prepared_anew(cohort, tmp_path):
    with pytest.raises(StoppedError):
        prepare(cohort, tmp_path / "out", REGION, watch=stopped_after(4))
    other = np.random.default_rng(99).integers(-200, 800, (24, 20, 9)).astype(np.int16)
    nib.save(nib.Nifti1Image(other, AFFINE), tmp_path / "image0.nii.gz")
    moved = changed(cohort, "c1", region_centre_ras_mm=(1.0, 0.0, 0.0))
    prepare(moved, tmp_path / "out", REGION)
    prepare(moved, tmp_path / "whole", REGION)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_killed_while_the_folder_is_put_together(cohort, tmp_path, monkeypatch):
    """Nothing of the half-made folder is left, and no case is prepared again."""
    prepare(cohort, tmp_path / "whole", REGION)
    before = sorted(tmp_path.iterdir())
    half = tmp_path / ".out.part-0123456789ab"
    half.mkdir()
    (half / "images.npy").write_bytes(b"half")

    def fail(*_):
        raise StorageError("cannot write", where="out", fix="f", code="NO_SPACE")

    with monkeypatch.context() as patch:
        patch.setattr(prepare_join, "_describe", fail)
        with pytest.raises(StorageError):
            prepare(cohort, tmp_path / "out", REGION)
    monkeypatch.setattr("apatite.data.prepare_piece.prepare_region", None)
    prepare(cohort, tmp_path / "out", REGION)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out"])


def test_one_that_waits_for_another_hears_a_signal(cohort, tmp_path):
    """Another process puts the folder together just now."""

    def watch(rows, stage, total=None):
        yield from rows
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()

    with hold(tmp_path / ".out.unfinished", "prepare"), pytest.raises(StoppedError, match="all cases are done"):
        prepare(cohort, tmp_path / "out", REGION, watch=watch)
    prepare(cohort, tmp_path / "out", REGION)
    assert not (tmp_path / ".out.unfinished").exists()
