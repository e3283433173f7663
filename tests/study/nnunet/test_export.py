"""The data set that nnU-Net gets holds what the network gets: the same voxels, the same grid, the same cases."""

import json
from dataclasses import replace

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.io.nifti import read_volume
from apatite.io.store import Prepared
from apatite.segment.config import FinetuneConfig
from apatite.segment.labelled import labelled_rows
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.nnunet.export import (
    DATASET,
    channels_of,
    export_dataset,
    hard_labels,
    ignored_background,
)

CONFIG = NnunetConfig(minutes=1.0)


def test_regions_are_written_as_the_network_sees_them(head_study, tmp_path):
    prepared = head_study.open()
    made = export_dataset(prepared, CONFIG, tmp_path)
    assert made.folder == tmp_path / DATASET
    splits = {name: prepared.case_index(name).tolist() for name in ("finetune", "development", "test")}
    for found, split in ((made.train, "finetune"), (made.development, "development"), (made.test, "test")):
        assert found == tuple(prepared.cases[row].case_id for row in splits[split])
    for split, side in (("finetune", "Tr"), ("development", "Tr"), ("test", "Ts")):
        for row in splits[split]:
            name = prepared.cases[row].case_id
            image = read_volume(made.folder / f"images{side}" / f"{name}_0000.nii.gz")
            window = read_volume(made.folder / f"images{side}" / f"{name}_0001.nii.gz")
            assert image.voxels.shape == (8, 16, 24)
            assert image.grid.matches(prepared.grid(row), 1e-4)
            np.testing.assert_array_equal(image.voxels, prepared.images[row])
            expected = np.clip(np.array(prepared.images[row]), 0, 300) / 150.0 - 1.0
            np.testing.assert_allclose(window.voxels, expected, atol=1e-6)
            if side == "Tr":
                label = read_volume(made.folder / "labelsTr" / f"{name}.nii.gz")
                np.testing.assert_array_equal(label.voxels, np.array(prepared.fractions[row, 0]) >= 127.5)
    assert not list((made.folder / "imagesTs").parent.glob("labelsTs"))
    split = json.loads((made.folder / "splits_final.json").read_text())
    assert split == [{"train": list(made.train), "val": list(made.development)}]


def test_the_description_of_regions(head_study, tmp_path):
    prepared = head_study.open()
    made = export_dataset(prepared, replace(CONFIG, windows=False), tmp_path)
    about = json.loads((made.folder / "dataset.json").read_text())
    assert about["channel_names"] == {"0": "CT"}
    assert about["labels"] == {"background": 0, "calcium": 1}
    assert about["numTraining"] == len(list((made.folder / "labelsTr").iterdir())) == 12
    assert not list((made.folder / "imagesTr").glob("*_0001.nii.gz"))
    ours = about["apatite"]
    assert (ours["kind"], ours["label_values"], ours["label_names"]) == ("region", [1], {"1": "calcium"})
    for row in prepared.case_index("test").tolist():
        # Exactly: a NIfTI would round it.
        assert ours["grids"][prepared.cases[row].case_id] == prepared.grids[row].ravel().tolist()


def test_volumes_with_labels_of_which_not_all_were_looked_for(body_study, tmp_path):
    prepared = body_study.open()
    made = export_dataset(prepared, CONFIG, tmp_path)
    about = json.loads((made.folder / "dataset.json").read_text())
    # Values 2 and 5 become 1 and 2; what is ignored is the next number.
    assert about["labels"] == {"background": 0, "left organ": 1, "right organ": 2, "ignore": 3}
    assert about["channel_names"] == {"0": "CT", "1": "noNorm"}
    for row in (*prepared.case_index("finetune").tolist(), *prepared.case_index("development").tolist()):
        name = prepared.cases[row].case_id
        volume = prepared.volume(name)
        label = read_volume(made.folder / "labelsTr" / f"{name}.nii.gz").voxels
        stored = np.asarray(volume.labels[:])
        if prepared.is_annotated[row].all():
            np.testing.assert_array_equal(label, stored)
            assert {1, 2} <= set(np.unique(label).tolist())
        else:
            np.testing.assert_array_equal(label, np.where(stored == 0, 3, stored))
            assert 0 not in label
        image = read_volume(made.folder / "imagesTr" / f"{name}_0000.nii.gz")
        np.testing.assert_array_equal(image.voxels, np.asarray(volume.image[:]))
        assert image.grid.matches(volume.grid, 1e-4)


def test_left_and_right_keep_their_sides(body_study, tmp_path):
    """The left organ lies at smaller x than the right one, in the scan and in the file."""
    prepared = body_study.open()
    made = export_dataset(prepared, CONFIG, tmp_path)
    row = next(r for r in prepared.case_index("finetune").tolist() if prepared.is_annotated[r].all())
    label = read_volume(made.folder / "labelsTr" / f"{prepared.cases[row].case_id}.nii.gz")
    x_mm = []
    for number in (1, 2):
        kji = np.argwhere(label.voxels == number)
        x_mm.append(label.grid.to_ras(kji[:, ::-1].astype(float))[:, 0].mean())
    assert x_mm[0] < x_mm[1]


def test_the_same_cases_as_in_fine_tuning(head_study, tmp_path):
    prepared = head_study.open()
    for number, (count, draw, hold_out) in enumerate([(2, 0, ()), (3, 1, ()), (None, 0, ("vendor=B",))]):
        config = replace(CONFIG, num_labelled=count, draw=draw, hold_out=hold_out)
        rows = labelled_rows(prepared, FinetuneConfig(num_labelled=count, draw=draw, hold_out=hold_out))
        made = export_dataset(prepared, config, tmp_path / str(number))
        assert made.train == tuple(prepared.cases[row].case_id for row in rows)
        assert len(made.development) == 7


def test_nothing_to_develop_on_is_refused_and_nothing_is_left(head_study, tmp_path):
    opened = head_study.open()
    cases = tuple(replace(case, split="unused" if case.split == "development" else case.split) for case in opened.cases)
    prepared = Prepared(
        folder=opened.folder, kind="region", manifest=replace(opened.manifest, cases=cases), about=opened.about
    )
    with pytest.raises(DataError) as caught:
        export_dataset(prepared, CONFIG, tmp_path / "raw")
    assert caught.value.code == "EMPTY_SPLIT"
    assert not (tmp_path / "raw").exists()


def test_channels_by_hand():
    image = np.array([[[-2000, -1024, 0, 75, 150, 300, 301, 4000]]], dtype=np.int16)
    full, window = channels_of(image, windows=True)
    assert full.ravel().tolist() == [-1024, -1024, 0, 75, 150, 300, 301, 3071]
    np.testing.assert_allclose(window.ravel(), [-1, -1, -1, -0.5, 0, 1, 1, 1])
    assert [channel.dtype for channel in (full, window)] == [np.int16, np.float32]


def test_hard_labels_by_hand():
    fractions = np.zeros((2, 1, 2, 3), np.uint8)
    fractions[0, 0] = [[127, 128, 255], [200, 10, 128]]
    fractions[1, 0] = [[0, 127, 0], [0, 245, 128]]
    # Less than half of a voxel is background; of two halves the first label.
    np.testing.assert_array_equal(hard_labels(fractions), [[[0, 1, 1], [1, 2, 1]]])


def test_a_label_that_was_not_looked_for_is_never_taught():
    label = np.array([[[0, 1, 2, 0]]], np.uint8)
    np.testing.assert_array_equal(ignored_background(label, [True, True]), label)
    np.testing.assert_array_equal(ignored_background(label, [True, False]), [[[3, 1, 3, 3]]])
