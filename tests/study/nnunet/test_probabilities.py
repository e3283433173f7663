"""The file that nnU-Net writes is read in its own order of axes, and what is no probability is refused."""

import zipfile

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.io.nifti_file import write_nifti
from apatite.study.nnunet.probabilities import case_of, read_probabilities

SHAPE = (3, 4, 5)
AFFINE = np.array([[0.5, 0, 0, -3], [0, 0.75, 0, 2], [0, 0, 2.5, 1], [0, 0, 0, 1.0]])


@pytest.fixture
def pattern() -> np.ndarray:
    """Three classes; every number is different, so any swap of axes or classes shows."""
    logits = (
        np.arange(3 * 60, dtype=np.float32).reshape(3, *SHAPE) * np.array([1, -1, 0.5], np.float32)[:, None, None, None]
    )
    exponentials = np.exp(logits / 90)
    return (exponentials / exponentials.sum(axis=0)).astype(np.float32)


@pytest.fixture
def label_map(tmp_path, pattern):
    path = tmp_path / "case-1.a.nii.gz"
    write_nifti(path, pattern.argmax(axis=0).astype(np.uint8), AFFINE)
    return path


def test_planes_are_the_foreground_classes_in_depth_height_width(label_map, pattern):
    np.savez_compressed(label_map.with_name("case-1.a.npz"), probabilities=pattern)
    found = read_probabilities(label_map, 2, "case-1.a")
    np.testing.assert_array_equal(found.planes, pattern[1:])
    assert found.grid.shape == SHAPE
    np.testing.assert_allclose(found.grid.ijk_to_ras, AFFINE)
    # The voxel (k, j, i) = (2, 1, 3) lies 3 columns along x, one row along y, two slices along z.
    assert found.planes[0, 2, 1, 3] == pattern[1, 2, 1, 3]
    np.testing.assert_allclose(found.grid.to_ras(np.array([3.0, 1.0, 2.0])), [-1.5, 2.75, 6.0])


def test_half_precision_is_read_too(label_map, pattern):
    np.savez(label_map.with_name("case-1.a.npz"), probabilities=pattern.astype(np.float16))
    found = read_probabilities(label_map, 2, "case-1.a").planes
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pattern[1:], atol=1e-3)


def test_a_label_map_alone_is_certain(label_map, pattern):
    found = read_probabilities(label_map, 2, "case-1.a").planes
    np.testing.assert_array_equal(found[0], (pattern.argmax(axis=0) == 1).astype(np.float32))
    np.testing.assert_array_equal(found[1], (pattern.argmax(axis=0) == 2).astype(np.float32))
    with pytest.raises(DataError) as caught:
        read_probabilities(label_map, 1, "case-1.a")
    assert (caught.value.code, caught.value.where) == ("BAD_LABEL", "case-1.a")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda p: p.transpose(0, 3, 2, 1), "GRID_MISMATCH"),
        (lambda p: p[:2], "GRID_MISMATCH"),
        (lambda p: (p * 100).astype(np.int16), "GRID_MISMATCH"),
        (lambda p: p * 2, "BAD_LABEL"),
        (lambda p: np.where(p > 0.5, np.nan, p), "BAD_LABEL"),
    ],
)
def test_what_does_not_fit_is_refused(label_map, pattern, change, code):
    np.savez(label_map.with_name("case-1.a.npz"), probabilities=change(pattern))
    with pytest.raises(DataError) as caught:
        read_probabilities(label_map, 2, "case-1.a")
    assert (caught.value.code, caught.value.where) == (code, "case-1.a")


def test_damage_is_refused(label_map, pattern):
    archive = label_map.with_name("case-1.a.npz")
    np.savez_compressed(archive, probabilities=pattern)
    content = archive.read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive", content.replace(b"probabilities", b"probebilities")):
        archive.write_bytes(damaged)
        with pytest.raises(DataError) as caught:
            read_probabilities(label_map, 2, "case-1.a")
        assert caught.value.code == "TRUNCATED"


def test_probabilities_that_lie_otherwise_than_their_label_map_are_refused(tmp_path):
    label_map, label = tmp_path / "case-1.a.nii.gz", np.zeros(SHAPE, np.uint8)
    label[0, :2, :2], label[0, 2, 4] = 1, 2
    write_nifti(label_map, label, AFFINE)
    classes = np.stack([label == value for value in range(3)]).astype(np.float32)
    np.savez(tmp_path / "case-1.a.npz", probabilities=classes)
    assert read_probabilities(label_map, 2, "case-1.a").planes.sum() == 5
    np.savez(tmp_path / "case-1.a.npz", probabilities=classes[:, ::-1])
    with pytest.raises(DataError, match="is not of its label map") as caught:
        read_probabilities(label_map, 2, "case-1.a")
    assert caught.value.code == "GRID_MISMATCH"


def test_labels_that_were_taken_away_afterwards_are_no_disagreement(label_map, pattern):
    label = pattern.argmax(axis=0).astype(np.uint8)
    label[:2] = 0
    label_map.unlink()
    write_nifti(label_map, label, AFFINE)
    np.savez(label_map.with_name("case-1.a.npz"), probabilities=pattern)
    np.testing.assert_array_equal(read_probabilities(label_map, 2, "case-1.a").planes, pattern[1:])


def test_the_member_that_was_checked_is_the_one_that_is_read(label_map, pattern, tmp_path):
    """Beside the array a second member, whose name `np.load` would prefer and whose size nobody looked at."""
    archive = label_map.with_name("case-1.a.npz")
    np.savez(archive, probabilities=pattern)
    np.save(tmp_path / "other.npy", np.zeros((9, 9, 9), np.float32))
    with zipfile.ZipFile(archive, "a") as file:
        file.write(tmp_path / "other.npy", "probabilities")
    assert read_probabilities(label_map, 2, "case-1.a").planes.shape == (2, *SHAPE)


def test_pickled_objects_are_never_loaded(label_map, tmp_path):
    (tmp_path / "probabilities.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(128)
    )
    with zipfile.ZipFile(label_map.with_name("case-1.a.npz"), "w") as archive:
        archive.write(tmp_path / "probabilities.npy", "probabilities.npy")
    with pytest.raises(DataError) as caught:
        read_probabilities(label_map, 2, "case-1.a")
    assert caught.value.code in ("TRUNCATED", "GRID_MISMATCH")


def test_case_of(tmp_path):
    assert [case_of(tmp_path / name) for name in ("a.b.nii.gz", "c.nii")] == ["a.b", "c"]
