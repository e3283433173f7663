"""The Decathlon's tasks: the list, the files and the published division must agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apatite.core.errors import DataError
from apatite.io.layouts import PUBLISHED, detect_layout, read_layout

ABOUT = {
    "msd_lung": {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "cancer"}},
    "msd_brats": {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    },
}
Writer = Callable[..., Path]


def about_of(layout: str) -> dict[str, Any]:
    names = list(PUBLISHED[layout].patients)
    return ABOUT[layout] | {
        "numTraining": len(names),
        "numTest": 1,
        # As distributed, the list is in no order.
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in reversed(names)
        ],
        "test": [f"./imagesTs/{layout[4:]}_999.nii.gz"],
    }


@pytest.fixture
def make(tmp_path: Path) -> Writer:
    """A task's folder with files that nobody opens yet."""

    def write(layout: str, **changes: Any) -> Path:
        about = about_of(layout)
        for item in about["training"]:
            for key in ("image", "label"):
                path = tmp_path / item[key]
                path.parent.mkdir(exist_ok=True)
                path.touch()
                path.with_name(f"._{path.name}").touch()
        (tmp_path / "dataset.json").write_text(json.dumps(about | changes))
        return tmp_path

    return write


def refused(path: Path, layout: str = "msd_lung") -> DataError:
    with pytest.raises(DataError) as caught:
        read_layout(path, layout)
    return caught.value


@pytest.mark.parametrize("layout", ABOUT)
def test_every_listed_case_has_its_split(make, layout):
    manifest = read_layout(make(layout), layout)
    assert len(manifest.cases) == len(PUBLISHED[layout].patients)
    assert len(manifest.of_split("test")) == len(PUBLISHED[layout].test)
    assert manifest.label_names == {int(key): name for key, name in ABOUT[layout]["labels"].items() if key != "0"}
    first = manifest.cases[0]
    assert (first.case_id, first.image, first.label) == (
        PUBLISHED[layout].patients[0].lower(),
        f"imagesTr/{PUBLISHED[layout].patients[0]}.nii.gz",
        f"labelsTr/{PUBLISHED[layout].patients[0]}.nii.gz",
    )


def test_the_division_is_asked_for_by_name_only(make):
    path = make("msd_lung")
    assert detect_layout(path) == "decathlon"
    assert {case.split for case in read_layout(path).cases} == {"", "test"}


def test_files_and_list_must_agree(make):
    path = make("msd_lung")
    (path / "labelsTr" / "lung_005.nii.gz").unlink()
    error = refused(path)
    assert (error.code, "labelsTr/lung_005.nii.gz" in error.what) == ("MISSING_FILE", True)
    (path / "labelsTr" / "lung_005.nii.gz").touch()
    (path / "imagesTr" / "lung_007.nii.gz").touch()
    error = refused(path)
    assert (error.code, "holds lung_007" in error.what) == ("SPLIT_DIFFERS", True)


def test_a_list_that_contradicts_itself_is_refused(make):
    path = make("msd_lung", numTraining=64)
    assert "64 training cases, and lists 63" in refused(path).what
    items = about_of("msd_lung")["training"]
    swapped = [items[0] | {"label": items[1]["label"]}, *items[1:]]
    make("msd_lung", training=swapped)
    assert "gives lung_096.nii.gz the label lung_095.nii.gz" in refused(path).what
    make("msd_lung", training=["./imagesTr/lung_001.nii.gz"])
    assert "one image and one label" in refused(path).what
    make("msd_lung", training=None, numTraining=0)
    assert refused(path).code == "SPLIT_DIFFERS"


def test_a_shorter_list_is_not_the_published_data_set(make):
    path = make("msd_lung", training=about_of("msd_lung")["training"][1:], numTraining=62)
    for part in ("imagesTr", "labelsTr"):
        (path / part / "lung_096.nii.gz").unlink()
    error = refused(path)
    assert (error.code, "lacks lung_096" in error.what) == ("SPLIT_DIFFERS", True)


def test_another_task_is_refused(make, tmp_path):
    assert "no dataset.json" in refused(tmp_path).what
    path = make("msd_lung")
    assert refused(path, "msd_brats").fix == "give the folder Task01_BrainTumour"
    make("msd_brats", modality={"0": "T1w", "1": "FLAIR", "2": "t1gd", "3": "T2w"})
    assert "T1w" in refused(path, "msd_brats").what
    make("msd_lung", labels={"0": "background", "1": "liver", "2": "cancer"})
    assert refused(path).code == "BAD_LABEL"
