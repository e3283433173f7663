from typing import Any

import pytest

from apatite.core.errors import DataError
from apatite.study.paper.results import changed_by, gather, patch_voxels, studies
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.grid import READERS, packaged_grids, read_grid
from apatite.study.sweep.record import Record, outcomes_of, write_record


def test_records_are_found_from_the_sweep_its_rows_or_the_folder_above(stored: Any):
    stored.add(0.5)
    stored.add(0.4, init="scratch")
    names = [record.name for record in gather([stored.folder])]
    assert len(names) == 2
    for folder in (stored.folder / "rows", stored.folder.parent):
        assert [record.name for record in gather([folder])] == names
    with pytest.raises(DataError, match="MISSING_FILE"):
        gather([stored.folder / "nowhere"])


def test_no_records_are_one_empty_study(stored: Any):
    (only,) = studies([], stored.quick)
    assert (only.records, only.reference, only.values("patch")) == ((), {}, [])
    assert only.runs(only.arm("ViT", init="mae")) == {}


def test_rows_judged_by_other_truths_are_other_studies(stored: Any):
    stored.add(0.5)
    stored.truth = "another truth"
    stored.add(0.5, seed=1)
    stored.tier = "paper"
    stored.add(0.5, seed=2)
    found = stored.studies()
    assert [results.title for results in found] == [
        "tier paper", "tier small, judged by another ", "tier small, judged by truth",
    ]  # fmt: skip
    assert [len(results.records) for results in found] == [1, 1, 1]


def test_pre_training_rows_are_part_of_their_tier_and_of_no_arm(stored: Any):
    row = stored.add(0.5)
    encoder = Record(
        name="pretrain-mae-xs-p4-s0", kind="pretrain", tier="small", axes={"init": "mae"}, steps=9,
        seconds={"pretrain": 5.0}, num_parameters=7,
    )  # fmt: skip
    write_record(stored.folder, encoder)
    results = stored.results()
    assert [record.name for record in results.records] == [encoder.name, row.name]
    assert [found.name for found in results.runs(results.arm("ViT", init="mae")).values()] == [row.name]


def test_the_reference_is_the_smallest_patch_and_all_labels(stored: Any):
    for patch in (16, 8, 4):
        stored.add(0.5, patch=patch, decoder="upscale")
    stored.add(0.5, patch="2x4x8", decoder="sfpn")
    for labels in (5, 40):
        stored.add(0.4, labels=labels, draw=1)
    results = stored.results()
    assert results.values("patch") == [4, "2x4x8", 8, 16]
    assert results.values("labels") == [5, 40, "all"]
    assert results.reference == {
        "model": "vitiac-xs", "decoder": "mae", "upsampling": "nearest", "take": "encoder", "labels": "all",
        "reader": "perfect", "draw": 0, "patch": 4,
    }  # fmt: skip
    assert [patch_voxels(patch) for patch in (4, "2x4x4", 0)] == [64, 32, 0]


def test_without_all_labels_the_most_are_the_reference(stored: Any):
    for labels in (5, 158, 20):
        for draw in (2, 1):
            stored.add(0.4, labels=labels, draw=draw)
    results = stored.results()
    assert (results.reference["labels"], results.reference["draw"]) == (158, 1)


def test_an_arm_takes_in_seeds_and_nothing_else(stored: Any):
    for seed in (2, 0, 1):
        stored.add(0.6, seed=seed)
    for other in ({"labels": 20}, {"decoder": "upscale"}, {"patch": 8}, {"take": "embedding"}, {"reader": "reader"}):
        stored.add(0.1, **other)
    stored.add(0.1, model="vitiac-m")
    stored.add(0.1, init="scratch-equal-time")
    stored.add(0.55, arm="nnunet")
    results = stored.results()
    assert list(results.runs(results.arm("ViT", init="mae"))) == [(0, 0), (0, 1), (0, 2)]
    assert {record.kind for record in results.runs(results.arm("nnU-Net", arm="nnunet")).values()} == {"nnunet"}


def test_a_row_whose_recipe_was_changed_is_in_no_arm(stored: Any):
    usual = stored.add(0.6)
    changed = stored.add(0.9, tag="long")
    results = stored.results()
    assert changed_by(changed) == "long"
    assert not changed_by(usual)
    assert [record.name for record in results.runs(results.arm("ViT", init="mae")).values()] == [usual.name]


def test_the_same_run_from_two_sweeps_is_refused(stored: Any):
    stored.add(0.6)
    again = stored.beside("again")
    again.add(0.5)
    (results,) = studies(gather([stored.folder, again.folder]), stored.quick)
    with pytest.raises(DataError, match="ROWS_ALIKE"):
        results.runs(results.arm("ViT", init="mae"))


def test_rows_without_a_calibration_are_not_in_its_arm(stored: Any):
    record = stored.add(0.6)
    (read,) = gather([stored.folder])
    write_record(stored.folder, record, {"test": {"raw": outcomes_of(read, "test")["raw"]}})
    results = stored.results()
    assert results.runs(results.arm("ViT", "raw", init="mae"))
    assert not results.runs(results.arm("ViT", "calibrated", init="mae"))


@pytest.mark.parametrize("name", packaged_grids())
def test_a_row_of_a_packaged_grid_is_named_by_its_axes_unless_its_recipe_is_changed(name: str):
    for row in rows_of(read_grid(name)).values():
        if row.kind != "pretrain":
            record = Record(
                name=row.name, kind=row.kind, tier="small", axes=dict(row.axes), steps=1, seconds={}, num_parameters=1
            )
            assert bool(changed_by(record)) == (row.name.rpartition("-")[2] not in READERS)
