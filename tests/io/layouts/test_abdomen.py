"""Synapse and BTCV: one folder, two divisions."""

from pathlib import Path

import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.io.layouts import PUBLISHED, read_layout


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """`RawData/Training` with files that nobody opens yet."""
    for name in PUBLISHED["synapse"].patients:
        for part, file in (("img", name), ("label", name.replace("img", "label"))):
            path = tmp_path / "RawData" / "Training" / part / f"{file}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path / "RawData" / "Training"


@pytest.mark.parametrize(("layout", "held_out"), [("synapse", 12), ("btcv", 6)])
def test_every_case_has_its_label_and_its_split(training, layout, held_out):
    manifest = read_layout(training, layout)
    assert len(manifest.cases) == 30
    assert len(manifest.of_split("test")) == held_out
    for case in manifest.cases:
        assert case.image == f"img/{case.case_id}.nii.gz"
        assert case.label == f"label/{case.case_id.replace('img', 'label')}.nii.gz"
        assert case.patient_id == case.case_id
    assert sorted(manifest.label_names) == list(range(1, 14))
    assert (manifest.label_names[2], manifest.label_names[3]) == ("right kidney", "left kidney")
    assert (manifest.label_names[8], manifest.label_names[11]) == ("aorta", "pancreas")


def test_a_case_or_a_label_that_is_missing_or_too_many_is_named(training):
    label = training / "label" / "label0007.nii.gz"
    label.unlink()
    with pytest.raises(DataError, match="labels of img0007 do not belong") as caught:
        read_layout(training, "synapse")
    assert caught.value.code == "MISSING_FILE"
    (training / "img" / "img0007.nii.gz").unlink()
    with pytest.raises(DataError, match="lacks img0007") as caught:
        read_layout(training, "synapse")
    assert caught.value.code == "SPLIT_DIFFERS"
    for name in ("img/img0007.nii.gz", "label/label0007.nii.gz", "img/img0061.nii.gz", "label/label0061.nii.gz"):
        (training / name).touch()
    with pytest.raises(DataError, match="beside the published cases, img0061"):
        read_layout(training, "synapse")


def test_another_folder_is_refused(training, tmp_path):
    for path in (tmp_path, training.parent):
        with pytest.raises(DataError, match=r"no folders img and label.*RawData/Training"):
            read_layout(path, "btcv")


def test_a_pattern_of_patients_means_nothing_here(training):
    with pytest.raises(ConfigError, match="patients of synapse are known"):
        read_layout(training, "synapse", "(img)")
