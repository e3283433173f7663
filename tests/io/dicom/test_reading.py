"""Folders of DICOM files to scans: made ones with one fault each, and the real ones."""

import math
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import RLELossless

from apatite.core.errors import DataError
from apatite.io.dicom.parse import parse_headers
from apatite.io.dicom.reading import pixel_digests, read_files, read_folder
from apatite.io.dicom.series import image_key, lay_out, shared_positions


def code(folder, series_uid: str = "") -> str:
    with pytest.raises(DataError) as failed:
        read_folder(folder, series_uid, "case-1")
    assert failed.value.where == "case-1"
    assert failed.value.fix
    assert str(folder) not in str(failed.value)
    assert "canary" not in str(failed.value).lower()
    return failed.value.code


def test_a_folder(write_series, stored_of):
    reading = read_folder(write_series(6))
    assert reading.flags == ("SMALL_FIELD",)
    assert reading.scan.voxels_hu.dtype == np.int16
    expected = np.stack([stored_of(number).astype(int) - 1024 for number in range(6)])
    np.testing.assert_array_equal(reading.scan.voxels_hu, expected)
    assert reading.scan.is_padding is None
    np.testing.assert_allclose(reading.scan.stack.positions_mm, 20.0 + 2.5 * np.arange(6))
    assert reading.scan.stack.row_spacing_mm == 5.0
    assert reading.scan.stack.column_spacing_mm == 4.0


def test_file_names_and_instance_numbers_do_not_count(write_series):
    folder = write_series(5)
    straight = read_folder(folder)
    for number, path in enumerate(sorted(folder.iterdir())):
        image = pydicom.dcmread(path)
        image.InstanceNumber = 77
        image.save_as(folder / f"{(number * 3 + 2) % 5}-other")
        path.unlink()
    again = read_folder(folder)
    np.testing.assert_array_equal(again.scan.voxels_hu, straight.scan.voxels_hu)
    np.testing.assert_array_equal(again.scan.stack.origins_ras_mm, straight.scan.stack.origins_ras_mm)


def test_every_slice_has_its_own_rescale(write_series, stored_of):
    reading = read_folder(write_series(4, of=lambda number: {"RescaleIntercept": -1024 + 5 * number}))
    np.testing.assert_array_equal(reading.scan.voxels_hu[3], stored_of(3).astype(int) - 1009)


def test_one_slice_with_broken_values_makes_the_scan_float(write_series, stored_of):
    reading = read_folder(write_series(4, of=lambda number: {"RescaleSlope": 0.5} if number == 2 else {}))
    assert reading.scan.voxels_hu.dtype == np.float32
    np.testing.assert_array_equal(reading.scan.voxels_hu[1], stored_of(1).astype(int) - 1024)
    np.testing.assert_array_equal(reading.scan.voxels_hu[2], stored_of(2) * 0.5 - 1024)


def test_padding_and_clipping(write_series, stored_of):
    stored = stored_of(0).copy()
    stored[0, :3], stored[1, 1] = -2000, 32_767
    reading = read_folder(
        write_series(4, of=lambda number: {"stored": stored, "PixelPaddingValue": -2000} if number == 1 else {})
    )
    assert reading.flags == ("SMALL_FIELD", "HU_CLIPPED")
    expected = np.zeros((4, 12, 20), bool)
    expected[1, 0, :3] = True
    assert reading.scan.is_padding is not None
    np.testing.assert_array_equal(reading.scan.is_padding, expected)
    assert np.all(reading.scan.voxels_hu[expected] == -1024)


def test_junk_and_a_localizer_change_nothing(write_series, write_ct):
    folder = write_series(5)
    before = read_folder(folder)
    (folder / "notes.txt").write_text("not a DICOM file at all")
    (folder / "below").mkdir()
    write_ct(30, "series/below/scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
             ImageOrientationPatient=[0, 1, 0, 0, 0, -1])  # fmt: skip
    after = read_folder(folder)
    np.testing.assert_array_equal(before.scan.voxels_hu, after.scan.voxels_hu)
    assert before.flags == after.flags


def test_a_second_copy_is_left_out_and_another_image_is_not(write_series, write_ct):
    folder = write_series(5)
    shutil.copy(folder / "002.dcm", folder / "copy.dcm")
    reading = read_folder(folder)
    assert [(one.code, one.path.name) for one in reading.series.left_out] == [("DUP_FILE", "copy.dcm")]
    # The same instance UID over other pixels is no copy.
    write_ct(2, "series/copy.dcm", stored=np.zeros((12, 20), np.int16))
    assert code(folder) == "DUP_POS"


def test_equal_pixels_under_another_name_are_a_copy(write_series, decoder):
    folder = write_series(4)
    image = pydicom.dcmread(folder / "001.dcm")
    image.SOPInstanceUID = "1.9.9.9"
    image.save_as(folder / "copy.dcm")
    reading = read_folder(folder)
    assert [one.code for one in reading.series.left_out] == ["DUP_FILE"]
    digests = pixel_digests(reading.series.headers, decoder)
    assert len(set(digests.values())) == 4
    assert set(digests) == {image_key(header) for header in reading.series.headers}


def test_two_series_must_be_told_apart(write_series, write_ct):
    folder = write_series(4)
    for number in range(3):
        write_ct(40 + number, f"series/b{number}.dcm", SeriesInstanceUID="1.2.3.5")
    with pytest.raises(DataError, match="2 series") as failed:
        read_folder(folder)
    assert failed.value.code == "MIXED_SERIES"
    assert read_folder(folder, "1.2.3.5").scan.voxels_hu.shape == (3, 12, 20)
    assert read_folder(folder, "1.2.3.4").scan.voxels_hu.shape == (4, 12, 20)
    assert code(folder, "1.2.3.6") == "LT3_SLICES"


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: content[:-1], "TRUNCATED"),
        (lambda content: content[:700], "TRUNCATED"),
        (lambda content: b"", "TRUNCATED"),
        (lambda content: content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"), "SYNTAX_UNSUPPORTED"),
    ],
)
def test_a_damaged_slice_is_not_left_out_in_silence(damage, expected, number, write_series):
    folder = write_series(6)
    path = folder / f"{number:03d}.dcm"
    path.write_bytes(damage(path.read_bytes()))
    if number == 5 or expected != "TRUNCATED":
        assert code(folder) == expected
    else:
        assert code(folder) in (expected, "MISSING_SLICES")


def test_an_image_without_a_series_is_not_left_out_in_silence(write_series, write_ct):
    folder = write_series(5)
    write_ct(5, "series/005.dcm", SeriesInstanceUID="")
    assert code(folder) == "MIXED_SERIES"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"RescaleSlope": None}, "NO_HU"),
        ({"Modality": "MR"}, "NOT_CT"),
        ({"PixelSpacing": None}, "NO_SPACING"),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.5, 0.5]}, "NO_SPACING"),
        ({"ImageOrientationPatient": None}, "NO_IOP"),
        ({"ImagePositionPatient": None}, "NO_IPP"),
        ({"ImagePositionPatient": [0, 0, 0]}, "DUP_POS"),
    ],
)
def test_a_series_that_cannot_be_measured(changes, expected, write_series):
    assert code(write_series(4, **changes)) == expected


def test_folders_without_a_series(tmp_path):
    assert code(tmp_path) == "NOT_DICOM"
    (tmp_path / "text").write_text("not a DICOM file at all")
    assert code(tmp_path) == "NOT_DICOM"
    assert code(tmp_path / "none") == "IO_ERROR"


def test_an_enhanced_file(write_enhanced, stored_of, decoder):
    for syntax in ("", RLELossless):
        reading = read_files([write_enhanced(5, syntax=syntax)], decoder)
        expected = np.stack([stored_of(number).astype(int) - 1024 for number in range(5)])
        np.testing.assert_array_equal(reading.scan.voxels_hu, expected)
        np.testing.assert_allclose(reading.scan.stack.positions_mm, 20 + 2.5 * np.arange(5))


def test_the_head_is_read_as_it_was_scanned(real):
    """Tilt 18.5 degrees, steps of 4.00, 1.08 and 7.00 mm; HU equal to plain pydicom's; places equal to SimpleITK's."""
    folder = real("head_ct_ge/dicom")
    reading = read_folder(folder)
    scan, stack = reading.scan, reading.scan.stack
    assert reading.flags == ("TILT", "SPACING_VARIES", "OVERLAP", "THICKNESS_VARIES")
    assert stack.shape == (28, 512, 512)
    np.testing.assert_allclose(np.diff(stack.positions_mm), [4.0019] * 13 + [1.0811] + [6.9986] * 13, atol=1e-3)
    np.testing.assert_array_equal(np.unique(stack.thickness_mm), [4.0, 7.0])
    way = stack.origins_ras_mm[-1] - stack.origins_ras_mm[0]
    assert math.degrees(math.acos(way @ stack.normal_ras / np.linalg.norm(way))) == pytest.approx(18.5, abs=0.05)
    assert scan.voxels_hu.dtype == np.int16
    for index, header in enumerate(reading.series.headers):
        image = pydicom.dcmread(header.path)
        stored = image.pixel_array.astype(int)
        assert scan.is_padding is not None
        np.testing.assert_array_equal(scan.is_padding[index], stored == -1500)
        np.testing.assert_array_equal(scan.voxels_hu[index], np.where(stored == -1500, -1024, stored))
    for index in (0, 13, 14, 27):
        single = SimpleITK.ReadImage(str(reading.series.headers[index].path))
        for column, row in ((0, 0), (511, 0), (0, 511), (300, 200)):
            lps = np.array(single.TransformIndexToPhysicalPoint((column, row, 0)))
            ras = stack.to_ras(index, np.array([float(row), float(column)]))
            np.testing.assert_allclose(ras, lps * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gantrytilting/001", "TILT"),
        ("notavolume/001", "DUP_POS"),
        ("slicecount/001", "NOT_CT"),
        ("sliceincrement/001", "MISSING_SLICES"),
        ("sliceincrement/002", "MISSING_SLICES"),
        ("sliceorientation/001", "NOT_CT"),
    ],
)
def test_awkward_series(name, expected, real):
    folder = real("awkward_dicom") / name
    if expected == "TILT":
        assert read_folder(folder).flags == ("TILT", "NO_THICKNESS")
    else:
        assert code(folder) == expected


def test_duplicate_positions(real, tmp_path):
    """Two files of one position under two instance UIDs hold equal pixels; steps of up to 115 mm are no stack."""
    with zipfile.ZipFile(real("dupe_positions/dupe-positions.zip")) as archive:
        for name in archive.namelist():
            (tmp_path / Path(name).name).write_bytes(archive.read(name))
    assert code(tmp_path) == "MISSING_SLICES"
    headers = [header for path in tmp_path.iterdir() for header in parse_headers(path)]
    assert [header.path.name for header in shared_positions(headers)] in (
        ["CT26.dcm", "CT28.dcm"],
        ["CT28.dcm", "CT26.dcm"],
    )
    refusal = lay_out(headers).refusal
    assert refusal is not None
    assert refusal.code == "DUP_POS"
