"""DICOM files made by pydicom, and the real ones where they are at hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless

from apatite.io.dicom.child import Decoder
from apatite.io.dicom.limits import ReadLimits

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Maker = Callable[..., FileDataset]
Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def decoder() -> Iterator[Decoder]:
    """One child for all tests that do not kill it. Small limits keep a failing test short."""
    with Decoder(ReadLimits(wall_s=60.0)) as opened:
        yield opened


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """A folder or file of the real images; the test is skipped where they are not at hand."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"the real images are not here: {name}")
        return DATA / name

    return find


def _stored(number: int, shape: tuple[int, int], dtype: type = np.int16) -> np.ndarray:
    draw = np.random.default_rng(number)
    ramp = np.add.outer(np.arange(shape[0]) * 7, np.arange(shape[1]) * 3)
    return (ramp + draw.integers(0, 40, shape) + 900).astype(dtype)


@pytest.fixture(scope="session")
def make_ct() -> Maker:
    """A CT image of 12 rows and 20 columns, stored as 16 bits signed, HU = stored - 1024."""

    def make(number: int = 0, stored: np.ndarray | None = None, **changes: Any) -> FileDataset:
        stored = _stored(number, (12, 20)) if stored is None else stored
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number + 1}"
        image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"1.2.3.4.{number + 1}"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        image.FrameOfReferenceUID = "1.2.3.9"
        image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.PatientName, image.PatientID, image.PatientBirthDate = "Canary^Name", "canary-id", "19330101"
        image.Manufacturer, image.ConvolutionKernel = "MAKER", "H30s"
        image.InstanceNumber, image.AcquisitionNumber, image.KVP = number + 1, 1, 120
        image.ImagePositionPatient = [-110.5, -95.25, 20.0 + 2.5 * number]
        image.ImageOrientationPatient = list(AXIAL)
        image.PixelSpacing, image.SliceThickness = [13.0 / 2.6, 8.0 / 2], 2.5
        image.Rows, image.Columns = stored.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored = 8 * stored.dtype.itemsize, 8 * stored.dtype.itemsize
        image.HighBit, image.PixelRepresentation = image.BitsStored - 1, int(stored.dtype.kind == "i")
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, -1024, "HU"
        image.PixelData = stored.tobytes()
        image["PixelData"].VR = "OW" if stored.dtype.itemsize == 2 else "OB"
        for name, value in changes.items():
            if value is None:
                delattr(image, name)
            else:
                setattr(image, name, value)
        return image

    return make


@pytest.fixture
def write_ct(tmp_path: Path, make_ct: Maker) -> Writer:
    """Write one such image; returns its path."""

    def write(number: int = 0, name: str = "", syntax: str = "", **changes: Any) -> Path:
        path = tmp_path / (name or f"{number:03d}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        image = make_ct(number, **changes)
        if syntax:
            image.compress(syntax) if syntax != ExplicitVRLittleEndian else None
        image.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_series(write_ct: Writer, tmp_path: Path) -> Callable[..., Path]:
    """Write a stack of images into one folder; `of(number)` gives changes for one of them."""

    def write(slices: int = 6, of: Callable[[int], dict[str, Any]] = lambda number: {}, **changes: Any) -> Path:
        for number in range(slices):
            write_ct(number, f"series/{number:03d}.dcm", **{**changes, **of(number)})
        return tmp_path / "series"

    return write


@pytest.fixture
def write_enhanced(tmp_path: Path, make_ct: Maker) -> Callable[..., Path]:
    """Write an enhanced multi-frame CT: geometry in its functional groups, frames in a mixed order."""

    def write(frames: int = 5, name: str = "enhanced.dcm", syntax: str = "", **changes: Any) -> Path:
        order = [(3 * frame + 1) % frames for frame in range(frames)]
        stored = np.concatenate([_stored(number, (12, 20)) for number in order])
        image = make_ct(0, stored=stored)
        for keyword in (
            "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
            "RescaleIntercept", "RescaleType", "ConvolutionKernel", "KVP",
        ):  # fmt: skip
            delattr(image, keyword)
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        image.NumberOfFrames, image.Rows = frames, 12
        shared = Dataset()
        shared.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=list(AXIAL))])
        shared.PixelMeasuresSequence = Sequence([_item(PixelSpacing=[5.0, 4.0], SliceThickness=2.5)])
        shared.PixelValueTransformationSequence = Sequence(
            [_item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")]
        )
        image.SharedFunctionalGroupsSequence = Sequence([shared])
        image.PerFrameFunctionalGroupsSequence = Sequence(
            [
                _item(PlanePositionSequence=[_item(ImagePositionPatient=[-110.5, -95.25, 20.0 + 2.5 * number])])
                for number in order
            ]
        )
        for keyword, value in changes.items():
            setattr(image, keyword, value)
        if syntax == RLELossless:
            image.compress(syntax)
        image.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


@pytest.fixture(scope="session")
def stored_of() -> Callable[[int], np.ndarray]:
    """The stored values that `make_ct` gives to image `number`."""
    return lambda number: _stored(number, (12, 20))
