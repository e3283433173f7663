"""Files that are whole, and files that are not."""

import errno
import gzip
import os
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apatite.core.errors import ApatiteError, ConfigError, DataError, StorageError
from apatite.io.nifti_file import MAX_VOXELS, read_nifti, write_nifti

AFFINE = np.array([[0.5, 0, 0.2, -10], [0, 0.7, 0, 5], [0, 0.1, 3.0, 7], [0, 0, 0, 1]])


def patched(path: Path, offset: int, form: str, *values: float) -> Path:
    """Change header fields of an uncompressed file."""
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{form}", content, offset, *values)
    path.write_bytes(bytes(content))
    return path


def code_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_nifti(path, "case-7")
    assert caught.value.where == "case-7"
    assert caught.value.fix
    return caught.value.code


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_reads_what_nibabel_reads(write_image, dtype, name):
    path = write_image(name, dtype=dtype, voxels=np.arange(60).reshape(5, 4, 3), affine=AFFINE)
    content = read_nifti(path, "x")
    oracle = nib.load(path)
    assert content.voxels.dtype == dtype
    np.testing.assert_array_equal(content.voxels, np.asarray(oracle.dataobj).T)
    np.testing.assert_array_equal(content.ijk_to_ras, oracle.affine)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders(tmp_path, kind, order):
    voxels = np.arange(24).reshape(2, 3, 4).astype(np.int16)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    nib.save(kind(voxels, AFFINE, header), tmp_path / "a.nii")
    content = read_nifti(tmp_path / "a.nii", "x")
    np.testing.assert_array_equal(content.voxels, voxels.T)
    assert content.voxels.dtype.isnative


def test_slope_and_intercept_are_honoured(write_image):
    path = write_image("a.nii", voxels=np.arange(60).reshape(5, 4, 3))
    patched(path, 112, "ff", 0.5, -1024.0)
    np.testing.assert_array_equal(read_nifti(path, "x").voxels, np.arange(60).reshape(5, 4, 3).T * 0.5 - 1024)


def test_sform_is_authoritative(write_image):
    path = write_image("a.nii", affine=AFFINE)
    image = nib.load(path)
    image.set_qform(np.diag([9.0, 9, 9, 1]), code=1)
    nib.save(image, path.with_name("b.nii"))
    np.testing.assert_allclose(read_nifti(path.with_name("b.nii"), "x").ijk_to_ras, AFFINE, atol=1e-6)


def test_qform_alone_is_enough(write_image):
    path = patched(write_image("a.nii"), 254, "h", 0)
    patched(path, 252, "h", 1)
    np.testing.assert_allclose(read_nifti(path, "x").ijk_to_ras, np.diag([0.5, 0.7, 3.0, 1.0]), atol=1e-6)


def test_bad_headers_are_named(write_image):
    def fresh() -> Path:
        return write_image("a.nii")

    assert code_of(patched(fresh(), 252, "hh", 0, 0)) == "BAD_AFFINE"
    assert code_of(patched(fresh(), 280, "ffff", 0, 0, 0, 0)) == "BAD_AFFINE"
    assert code_of(patched(fresh(), 280, "f", float("nan"))) == "BAD_AFFINE"
    assert code_of(patched(fresh(), 280, "f", 1e7)) == "BAD_SPACING"
    assert code_of(patched(fresh(), 123, "B", 1)) == "BAD_SPACING"
    assert code_of(patched(fresh(), 40, "8h", 4, 5, 4, 1, 3, 1, 1, 1)) == "NOT_3D"
    assert code_of(patched(fresh(), 40, "8h", 2, 5, 12, 1, 1, 1, 1, 1)) == "NOT_3D"
    assert code_of(patched(fresh(), 40, "8h", 3, 5, -4, 3, 1, 1, 1, 1)) == "NOT_3D"
    assert code_of(patched(fresh(), 40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)) == "TOO_LARGE"
    assert code_of(patched(fresh(), 70, "h", 128)) == "SYNTAX_UNSUPPORTED"
    assert code_of(patched(fresh(), 70, "h", 12345)) == "SYNTAX_UNSUPPORTED"
    assert code_of(patched(fresh(), 108, "f", 1e12)) == "LENGTH_LIE"
    assert code_of(patched(fresh(), 112, "f", float("inf"))) == "BAD_RESCALE"


def test_damaged_files_are_named(write_image, tmp_path):
    plain = write_image("a.nii").read_bytes()
    zipped = write_image("b.nii.gz").read_bytes()
    path = tmp_path / "case.nii.gz"
    assert code_of(path) == "MISSING_FILE"
    for content, code in [
        (b"", "NOT_NIFTI"),
        (b"not an image" * 99, "NOT_NIFTI"),
        (plain[:200], "TRUNCATED"),
        (plain[:-1], "TRUNCATED"),
        (plain + b"\0", "TRAILING_DATA"),
        (zipped[: len(zipped) // 2], "TRUNCATED"),
        (zipped[:-8] + b"\0" * 8, "CRC"),
        (gzip.compress(plain + b"\0" * 1000), "TRAILING_DATA"),
    ]:
        path.write_bytes(content)
        assert code_of(path) == code


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(write_image, value):
    voxels = np.zeros((5, 4, 3))
    voxels[1, 2, 0] = value
    assert code_of(write_image("a.nii.gz", voxels=voxels, dtype=np.float32)) == "NONFINITE"


def test_a_compressed_bomb_is_not_inflated(tmp_path, write_image):
    """The header declares 60 voxels; 256 MB of zeros follow and must not be read."""
    import tracemalloc

    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(write_image("a.nii").read_bytes())
        for _ in range(16):
            stream.write(bytes(2**24))
    tracemalloc.start()
    assert code_of(path) == "TRAILING_DATA"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_a_header_that_promises_much_allocates_little(write_image):
    import tracemalloc

    path = patched(write_image("a.nii"), 40, "8h", 3, 1024, 1024, MAX_VOXELS // 2**20, 1, 1, 1, 1)
    tracemalloc.start()
    assert code_of(path) == "TRUNCATED"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


PLACES = st.one_of(st.integers(0, 359), st.sampled_from([*range(40, 60), *range(70, 124), *range(252, 328)]))
"""Any byte, and more often one of the fields that are read."""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_changed_bytes_never_leave_the_error_hierarchy(write_image, changes, is_zipped):
    content = bytearray(write_image("seed.nii").read_bytes())
    for place, value in changes:
        content[place] = value
    path = write_image("seed.nii").with_name("mutant.nii")
    path.write_bytes(gzip.compress(bytes(content)) if is_zipped else bytes(content))
    try:
        voxels = read_nifti(path, "mutant").voxels
    except ApatiteError:
        return
    assert np.all(np.isfinite(voxels))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_changed_compressed_bytes_never_leave_the_error_hierarchy(write_image, place, value):
    content = bytearray(write_image("seed.nii.gz").read_bytes())
    content[place % len(content)] = value
    path = write_image("seed.nii.gz").with_name("mutant.nii.gz")
    path.write_bytes(content)
    try:
        read_nifti(path, "mutant")
    except ApatiteError:
        return


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nibabel_reads_what_is_written(tmp_path, dtype, name):
    voxels = np.arange(60).reshape(3, 4, 5).astype(dtype)
    write_nifti(tmp_path / name, voxels, AFFINE)
    oracle = nib.load(tmp_path / name)
    assert oracle.header.get_slope_inter() in ((1.0, 0.0), (None, None))
    assert oracle.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(oracle.dataobj), voxels.T)
    np.testing.assert_allclose(oracle.affine, AFFINE, rtol=1e-6)
    assert oracle.header.get_xyzt_units()[0] == "mm"


def test_qform_is_not_written_where_it_cannot_hold_the_shear(tmp_path):
    voxels = np.zeros((3, 4, 5), np.int16)
    write_nifti(tmp_path / "sheared.nii", voxels, AFFINE)
    write_nifti(tmp_path / "plain.nii", voxels, np.diag([-1.0, 2.0, 3.0, 1.0]))
    assert int(nib.load(tmp_path / "sheared.nii").header["qform_code"]) == 0
    plain = nib.load(tmp_path / "plain.nii").header
    assert int(plain["qform_code"]) == 1
    np.testing.assert_allclose(plain.get_qform(), np.diag([-1.0, 2.0, 3.0, 1.0]), atol=1e-6)


def test_simpleitk_sees_the_same_points(tmp_path):
    import SimpleITK

    write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16), np.diag([-0.5, 0.7, -3.0, 1.0]))
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    lps = image.TransformIndexToPhysicalPoint((4, 3, 2))
    np.testing.assert_allclose([-lps[0], -lps[1], lps[2]], [-2.0, 2.1, -6.0], atol=1e-5)


def test_the_same_content_gives_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    hours = iter(range(10**9, 2 * 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    voxels = np.arange(60).reshape(3, 4, 5).astype(np.int16)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, voxels, AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "NO_SPACE"), (errno.EROFS, "READ_ONLY"), (errno.EIO, "IO_ERROR")]
)
def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, number, code):
    path = tmp_path / "a.nii.gz"
    write_nifti(path, np.zeros((3, 4, 5), np.int16), AFFINE)
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as caught:
        write_nifti(path, np.ones((3, 4, 5), np.int16), AFFINE)
    assert caught.value.code == code
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        write_nifti(tmp_path / "a.png", np.zeros((3, 4, 5), np.int16), AFFINE)


def test_a_note_goes_into_the_header_and_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    voxels = np.zeros((2, 3, 4), dtype=np.uint8)
    write_nifti(tmp_path / "a.nii.gz", voxels, np.eye(4), note="SIMULATED")
    assert nib.load(tmp_path / "a.nii.gz").header["descrip"].tobytes().rstrip(b"\0") == b"SIMULATED"
    for note in ("x" * 80, "two\nlines", "µ"):
        with pytest.raises(ConfigError, match="does not fit"):
            write_nifti(tmp_path / "b.nii.gz", voxels, np.eye(4), note=note)
    assert not (tmp_path / "b.nii.gz").exists()
