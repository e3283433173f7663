"""Two voxel sizes in one file: the stated one is taken, by name, and everything else stays."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.io.manifest import Case, Manifest
from apatite.io.nifti import read_volume
from apatite.io.voxel_sizes import pixdim_affine, with_pixdim_sizes

QFORM = np.array([[-1.3, 0, 0, 7], [0, -1.5, 0, 2], [0, 0, 10, -4], [0, 0, 0, 1.0]])
ONE_MM = np.diag([-1.0, -1.0, 1.0, 1.0])
VOXELS = np.random.default_rng(0).integers(0, 400, (5, 4, 3)).astype(np.int16)


def save(path: Path, *, sform: np.ndarray, qform: np.ndarray | None = QFORM, voxels: np.ndarray = VOXELS) -> Path:
    """As ACDC's files are: sizes in `pixdim` and the qform, and a sform of its own."""
    image = nib.Nifti1Image(voxels, sform)
    image.header.set_qform(QFORM, code=1)
    image.header.set_sform(sform, code=1)
    if qform is None:
        image.header["qform_code"] = 0
    with path.open("wb") as file:
        file.write(image.header.binaryblock + b"\0" * 4 + voxels.tobytes(order="F"))
    return path


def header_ready(path: Path) -> Path:
    """Nibabel leaves the offset to its own writer."""
    content = bytearray(path.read_bytes())
    content[108:112] = np.float32(352).tobytes()
    content[344:348] = b"n+1\0"
    path.write_bytes(content)
    return path


@pytest.fixture
def make(tmp_path: Path):
    return lambda name, **how: header_ready(save(tmp_path / name, **how))


def test_the_file_is_as_it_should_be(make):
    header = nib.Nifti1Image.from_filename(make("a.nii", sform=ONE_MM)).header
    np.testing.assert_allclose(np.asarray(header["pixdim"][1:4], dtype=float), [1.3, 1.5, 10], rtol=1e-6)
    np.testing.assert_allclose(read_volume(make("a.nii", sform=ONE_MM)).grid.spacing_mm, (1, 1, 1))


def test_by_the_qform_or_by_the_sforms_directions(make):
    found = pixdim_affine(make("a.nii", sform=ONE_MM))
    assert found is not None
    np.testing.assert_allclose(found, QFORM, atol=1e-5)
    oblique = np.array([[0, -2.0, 0, 1], [-2, 0, 0, 5], [0, 0, 2, 3], [0, 0, 0, 1]])
    found = pixdim_affine(make("b.nii", sform=oblique, qform=None))
    assert found is not None
    np.testing.assert_allclose(found, [[0, -1.5, 0, 1], [-1.3, 0, 0, 5], [0, 0, 10, 3], [0, 0, 0, 1]], atol=1e-5)


def test_what_agrees_is_left_alone(make, tmp_path):
    rounded = QFORM.copy()
    rounded[0, 0] = -1.305
    for name, sform in (("a.nii", QFORM), ("b.nii", rounded)):
        assert pixdim_affine(make(name, sform=sform)) is None
    assert pixdim_affine(tmp_path / "none.nii") is None
    (tmp_path / "text.nii").write_text("no image")
    assert pixdim_affine(tmp_path / "text.nii") is None


def test_image_and_label_are_written_anew(make, tmp_path):
    make("i.nii", sform=ONE_MM)
    make("l.nii", sform=ONE_MM, voxels=(VOXELS > 200).astype(np.uint8))
    make("good.nii", sform=QFORM)
    make("short.nii", sform=ONE_MM)
    (tmp_path / "short.nii").write_bytes((tmp_path / "short.nii").read_bytes()[:-9])
    cases = (
        Case(case_id="c0", patient_id="p", image="i.nii", label="l.nii", split="test"),
        Case(case_id="c1", patient_id="p", image="good.nii"),
        Case(case_id="c2", patient_id="p", image="short.nii"),
    )
    manifest = Manifest(root=tmp_path, cases=cases, label_names={1: "left ventricle"})
    found, count = with_pixdim_sizes(manifest, tmp_path / "study" / "m.csv")
    assert count == 2
    assert [case.image for case in found.cases] == ["study/m.sizes/c0_image.nii.gz", "good.nii", "short.nii"]
    assert found.cases[0].label == "study/m.sizes/c0_label.nii.gz"
    assert found.cases[0].split == "test"
    image = read_volume(found.image_path(found.cases[0]))
    np.testing.assert_array_equal(image.voxels, VOXELS.T)
    np.testing.assert_allclose(image.grid.ijk_to_ras, QFORM, atol=1e-5)
    label = read_volume(tmp_path / found.cases[0].label)
    assert label.grid.matches(image.grid)
    np.testing.assert_array_equal(label.voxels, VOXELS.T > 200)


@pytest.mark.parametrize("quaternion", [1.2, float("nan")])
def test_a_quaternion_that_is_none_leaves_the_directions_to_the_sform(tmp_path, quaternion):
    header = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).header.copy()
    header["pixdim"][1:4], header["qform_code"], header["quatern_b"] = (1.5, 1.25, 5), 1, quaternion
    header.set_sform(np.eye(4), 1)
    path = tmp_path / "a.nii"
    path.write_bytes(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), None, header).to_bytes())
    np.testing.assert_allclose(pixdim_affine(path), np.diag((1.5, 1.25, 5, 1)), atol=1e-6)
