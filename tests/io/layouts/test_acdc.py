"""ACDC: two frames, one patient."""

import shutil
from pathlib import Path

import pytest

from apatite.core.errors import DataError
from apatite.io.layouts import PUBLISHED, read_layout

INFO = "ED: 1\nES: {es}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """The folder `training` with files that nobody opens yet; the end of systole differs by patient."""
    for number, name in enumerate(PUBLISHED["acdc"].patients):
        folder = tmp_path / "database" / "training" / name
        folder.mkdir(parents=True)
        systole = 7 + number % 9
        (folder / "Info.cfg").write_text(INFO.format(es=systole))
        for file in ("4d", "frame01", "frame01_gt", f"frame{systole:02d}", f"frame{systole:02d}_gt"):
            (folder / f"{name}_{file}.nii.gz").touch()
    (tmp_path / "database" / "training" / "MANDATORY_CITATION.md").write_text("cite")
    return tmp_path / "database" / "training"


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_layout(path, "acdc")
    return caught.value


def test_both_frames_are_one_patient(training):
    manifest = read_layout(training, "acdc")
    assert (len(manifest.cases), len({case.patient_id for case in manifest.cases})) == (200, 100)
    assert manifest.label_names == {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
    second = [case for case in manifest.cases if case.patient_id == "patient002"]
    assert [case.case_id for case in second] == ["patient002_frame01", "patient002_frame08"]
    assert [case.label for case in second] == [
        "patient002/patient002_frame01_gt.nii.gz",
        "patient002/patient002_frame08_gt.nii.gz",
    ]
    for split, count in (("finetune", 140), ("development", 20), ("test", 40)):
        cases = manifest.of_split(split)
        assert len(cases) == count
        assert len({case.patient_id for case in cases}) == count // 2


def test_frames_are_those_that_the_patient_says(training):
    (training / "patient003" / "Info.cfg").write_bytes(INFO.format(es=5).replace("\n", "\r\n").encode())
    error = refused(training)
    assert "patient003_frame09" in error.what
    assert "frames 1 and 5" in error.what
    for end in ("", "_gt"):
        (training / "patient003" / f"patient003_frame09{end}.nii.gz").rename(
            training / "patient003" / f"patient003_frame05{end}.nii.gz"
        )
    assert "patient003_frame05" in {case.case_id for case in read_layout(training, "acdc").cases}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ED: 1\nGroup: DCM\n", "found 1 and none"),
        ("ED: 4\nES: 4\n", "found 4 and 4"),
        ("ED: one\nES: 2\n", "none and 2"),
    ],
)
def test_info_that_names_no_two_frames_is_refused(training, text, what):
    (training / "patient050" / "Info.cfg").write_text(text)
    error = refused(training)
    assert what in error.what
    assert error.where.endswith("patient050/Info.cfg")


def test_what_is_missing_is_named(training):
    (training / "patient010" / "Info.cfg").unlink()
    assert (refused(training).code, "patient010" in refused(training).where) == ("MISSING_FILE", True)
    (training / "patient010" / "Info.cfg").write_text(INFO.format(es=7))
    (training / "patient010" / "patient010_frame07_gt.nii.gz").unlink()
    error = refused(training)
    assert (error.code, error.what) == ("MISSING_FILE", "patient010_frame07_gt.nii.gz is missing")
    shutil.rmtree(training / "patient010")
    error = refused(training)
    assert error.code == "SPLIT_DIFFERS"
    assert "lacks patient010" in error.what


def test_other_patients_and_folders_are_named(training):
    assert refused(training.parent).fix == "give that folder"
    (training / "patient101").mkdir()
    assert "beside the published cases, patient101" in refused(training).what
    (training / "patient101").rename(training / "notes")
    assert "notes" in refused(training).what
