"""One reader for every kind of image that a manifest can name."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.listing import write_listing
from apatite.io.dicom.reading import read_folder
from apatite.io.images import is_nifti, read_image
from apatite.io.nifti import write_scan


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five slices of 9 rows and 14 columns, with a folder of its own."""
    (tmp_path / "dicom").mkdir()
    for number in range(5):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number + 1}"
        image.SeriesInstanceUID, image.StudyInstanceUID, image.Modality = "1.2", "1", "CT"
        image.ImagePositionPatient = [-30, -40, 3 * number]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [1.5, 0.75], 3
        image.Rows, image.Columns, image.SamplesPerPixel = 9, 14, 1
        image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 1
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.RescaleSlope, image.RescaleIntercept = 1, -1000
        image.PixelData = (np.arange(9 * 14, dtype=np.int16) * (number + 1)).tobytes()
        image["PixelData"].VR = "OW"
        image.save_as(tmp_path / "dicom" / f"{number}.dcm", enforce_file_format=True)
    return tmp_path / "dicom"


def same(one: Scan, other: Scan) -> None:
    np.testing.assert_array_equal(one.voxels_hu, other.voxels_hu)
    np.testing.assert_allclose(one.stack.origins_ras_mm, other.stack.origins_ras_mm, atol=1e-3)
    np.testing.assert_allclose(one.stack.column_step_ras_mm, other.stack.column_step_ras_mm, atol=1e-6)
    np.testing.assert_allclose(one.stack.row_step_ras_mm, other.stack.row_step_ras_mm, atol=1e-6)
    np.testing.assert_allclose(one.stack.thickness_mm, other.stack.thickness_mm, atol=1e-3)


def test_a_folder_a_listing_and_a_nifti_give_the_same_scan(folder, tmp_path):
    scan = read_image(folder)
    assert scan.voxels_hu[2, 1, 3] == 17 * 3 - 1000
    assert isinstance(scan.stack, SliceStack)
    write_listing(tmp_path / "cases.series" / "one.series.json", read_folder(folder).series)
    same(read_image(tmp_path / "cases.series" / "one.series.json"), scan)
    write_scan(tmp_path / "one.nii.gz", scan)
    same(read_image(tmp_path / "one.nii.gz"), scan)


def test_a_listing_whose_files_changed_is_refused(folder, tmp_path):
    path = tmp_path / "one.series.json"
    write_listing(path, read_folder(folder).series)
    image = pydicom.dcmread(folder / "3.dcm")
    image.SOPInstanceUID = "1.2.99"
    image.save_as(folder / "3.dcm")
    with pytest.raises(DataError) as failed:
        read_image(path, "case-7")
    assert (failed.value.code, failed.value.where) == ("MIXED_SERIES", "case-7")
    (folder / "3.dcm").unlink()
    with pytest.raises(DataError) as failed:
        read_image(path, "case-7")
    assert failed.value.code == "IO_ERROR"
    assert "3.dcm" in failed.value.what
    assert str(tmp_path) not in str(failed.value)


def test_what_is_no_image(folder, tmp_path):
    for path, code in ((tmp_path / "none", "IO_ERROR"), (folder / "3.dcm", "LT3_SLICES")):
        with pytest.raises(DataError) as failed:
            read_image(path)
        assert failed.value.code == code
    (tmp_path / "text.dcm").write_text("neither this nor that, but long enough")
    with pytest.raises(DataError) as failed:
        read_image(tmp_path / "text.dcm", "case-7")
    assert failed.value.code == "NOT_DICOM"


def test_names():
    assert is_nifti(Path("a.NII.GZ"))
    assert not is_nifti(Path("a.dcm"))
    assert Decoder().num_started == 0
