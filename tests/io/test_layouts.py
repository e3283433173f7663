"""Every door leads to the same manifest."""

import json
from pathlib import Path

import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.io.layouts import case_id_of, detect_layout, read_layout
from apatite.io.manifest import Manifest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def facts(manifest: Manifest) -> dict[str, tuple]:
    """What must not depend on the door."""
    return {
        case.case_id: (
            case.patient_id,
            manifest.image_path(case).exists(),
            (path := manifest.label_path(case)) is not None and path.exists(),
            case.split,
        )
        for case in manifest.cases
    }


def test_a_folder_of_images(write_image, tmp_path):
    write_image("scans/P1_a.nii.gz")
    write_image("scans/deep/P1_b.nii")
    write_image("scans/.hidden.nii")
    manifest = read_layout(tmp_path / "scans", patient_pattern=r"^(P\d+)_")
    assert facts(manifest) == {"deep-p1_b": ("P1", True, False, ""), "p1_a": ("P1", True, False, "")}
    assert facts(read_layout(tmp_path / "scans"))["p1_a"][0] == "p1_a"
    with pytest.raises(DataError, match="finds no patient"):
        read_layout(tmp_path / "scans", patient_pattern="^(Q)")
    with pytest.raises(ConfigError, match="no regular expression"):
        read_layout(tmp_path / "scans", patient_pattern="(")


def test_images_beside_labels(write_image, tmp_path):
    write_image("data/images/a.nii.gz")
    write_image("data/images/b.nii")
    write_image("data/labels/b.nii.gz")
    (tmp_path / "data" / "labels.json").write_text('{"1": "calcium"}')
    manifest = read_layout(tmp_path / "data")
    assert facts(manifest) == {"a": ("a", True, False, ""), "b": ("b", True, True, "")}
    assert manifest.label_names == {1: "calcium"}
    write_image("data/labels/c.nii.gz")
    with pytest.raises(DataError, match=r"c\.nii\.gz has no image"):
        read_layout(tmp_path / "data")


@pytest.mark.parametrize(
    "labels", [{"background": 0, "liver": 1, "vein": 2}, {"0": "background", "1": "liver", "2": "vein"}]
)
def test_nnunet_raw(write_image, tmp_path, labels):
    for name in ("imagesTr/a_0000", "imagesTr/b_x_0000", "labelsTr/a", "labelsTr/b_x", "imagesTs/c_0000"):
        write_image(f"D/{name}.nii.gz")
    (tmp_path / "D" / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    assert detect_layout(tmp_path / "D") == "nnunet"
    manifest = read_layout(tmp_path / "D")
    assert facts(manifest) == {
        "a": ("a", True, True, ""),
        "b_x": ("b_x", True, True, ""),
        "c": ("c", True, False, "test"),
    }
    assert manifest.label_names == {1: "liver", 2: "vein"}
    write_image("D/imagesTr/a_0001.nii.gz")
    with pytest.raises(DataError, match="one channel"):
        read_layout(tmp_path / "D")


@pytest.mark.parametrize("labels", [{"background": 0, "a": 1, "ignore": 2}, {"whole": [1, 2]}, {"a": "x"}, {"a": 255}])
def test_labels_without_counterpart_are_refused(write_image, tmp_path, labels):
    write_image("D/imagesTr/a_0000.nii.gz")
    (tmp_path / "D" / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(DataError) as caught:
        read_layout(tmp_path / "D")
    assert caught.value.code == "BAD_LABEL"


@pytest.mark.parametrize("is_folder", [True, False])
def test_decathlon(write_image, tmp_path, is_folder):
    for name in ("imagesTr/a", "labelsTr/a", "imagesTr/b", "labelsTr/b", "imagesTs/c"):
        write_image(f"T/{name}.nii.gz")
    file = tmp_path / "T" / ("dataset.json" if is_folder else "list.json")
    content = {
        "labels": {"0": "background", "1": "calcium"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz", "fold": 2}],
        "validation": [{"image": "imagesTr/b.nii.gz", "label": "labelsTr/b.nii.gz", "patient_id": "P9"}],
        "test": ["./imagesTs/c.nii.gz"],
    }
    file.write_text(json.dumps(content))
    manifest = read_layout(tmp_path / "T" if is_folder else file)
    assert facts(manifest) == {
        "a": ("a", True, True, ""),
        "b": ("P9", True, True, "development"),
        "c": ("c", True, False, "test"),
    }
    assert manifest.cases[0].fold == 2
    content["training"] = [{"image": ["x", "y"]}]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no single image"):
        read_layout(tmp_path / "T" if is_folder else file)


def test_bids(write_image, tmp_path):
    write_image("B/sub-01/ses-1/anat/sub-01_ses-1_ct.nii.gz")
    write_image("B/sub-01/ses-2/anat/sub-01_ses-2_ct.nii.gz")
    write_image("B/sub-02/ct/sub-02_ct.nii.gz")
    write_image("B/sub-02/anat/sub-02_T1w.nii.gz")
    write_image("B/derivatives/manual/sub-01/ses-2/anat/sub-01_ses-2_desc-calcium_dseg.nii.gz")
    sidecar = {"Manufacturer": "GE", "SliceThickness": 2.5, "ConvolutionKernel": "SOFT"}
    (tmp_path / "B/sub-02/ct/sub-02_ct.json").write_text(json.dumps(sidecar))
    (tmp_path / "B/participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t71\tF\nsub-02\tn/a\tn/a\n")
    manifest = read_layout(tmp_path / "B")
    assert facts(manifest) == {
        "sub-01_ses-1": ("sub-01", True, False, ""),
        "sub-01_ses-2": ("sub-01", True, True, ""),
        "sub-02": ("sub-02", True, False, ""),
    }
    first, _, last = manifest.cases
    assert (first.age, first.sex, last.age, last.sex) == (71.0, "F", None, "")
    assert (last.vendor, last.slice_thickness_mm, last.kernel) == ("GE", 2.5, "SOFT")


def test_a_table_made_elsewhere(tmp_path):
    (tmp_path / "t.csv").write_text(
        "case_id,patient_id,image,label,split,annotated_labels\na,a,i,l,train,1 3\nb,b,i,l,validation,1\nc,c,i,,,\n"
    )
    manifest = read_layout(tmp_path / "t.csv")
    assert [case.split for case in manifest.cases] == ["pretrain", "development", ""]
    assert [case.annotated_labels for case in manifest.cases] == [(1, 3), (1,), ()]


@pytest.mark.skipif(not (SHARED / "openkbp").is_dir(), reason="the OpenKBP images are not here")
def test_openkbp():
    manifest = read_layout(SHARED / "openkbp" / "cases.csv")
    assert len(manifest.of_split("pretrain")) == 170
    assert len(manifest.of_split("development")) == 33
    assert all(manifest.image_path(case).exists() and case.annotated_labels for case in manifest.cases)


def test_names_never_collide_in_silence(write_image, tmp_path):
    write_image("scans/Head A.nii.gz")
    write_image("scans/head-a.nii.gz")
    with pytest.raises(DataError, match="would both be 'head-a'"):
        read_layout(tmp_path / "scans")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Müller, Å (1)", "m-ller-1-"), ("../../etc", "etc"), ("x" * 99, "x" * 64), ("A_b.C-d", "a_b.c-d")],
)
def test_names_become_safe(name, expected):
    assert case_id_of(name) == expected


def test_nothing_there_is_named(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_layout(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no"):
        read_layout(tmp_path)
    with pytest.raises(ConfigError, match="unknown layout"):
        read_layout(tmp_path, "nnunett")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(DataError, match="JSON object"):
        read_layout(tmp_path / "list.json")


def test_a_folder_of_dicom_has_its_own_door(write_image, tmp_path):
    (tmp_path / "d" / "deep").mkdir(parents=True)
    (tmp_path / "d" / "deep" / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    assert detect_layout(tmp_path / "d") == "dicom"
    for layout in ("auto", "dicom"):
        with pytest.raises(ConfigError, match="DICOM tree"):
            read_layout(tmp_path / "d", layout)
    write_image("d/scan.nii.gz")
    assert detect_layout(tmp_path / "d") == "folder"
    (tmp_path / "d" / "other.dcm").write_bytes(b"")
    with pytest.raises(DataError, match="DICOM and NIfTI"):
        detect_layout(tmp_path / "d")
