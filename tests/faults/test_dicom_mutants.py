"""Thousands of damaged DICOM files: the parent never dies, and every file gives headers and HU or a named refusal.

Ten ways to damage bytes, a fixed seed, one small image in seven encodings. A child that dies is restarted and its file
named; the answers are the proof that nothing else was lost.
"""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from apatite.core.reasons import REASONS
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.pixels import Pixels

MUTANTS = 2080
EDGE = (34, 40)


def image(frames: int = 1) -> FileDataset:
    stored = np.random.default_rng(3).integers(0, 3000, (frames, *EDGE)).astype(np.int16)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = meta.MediaStorageSOPClassUID = EnhancedCTImageStorage if frames > 1 else CTImageStorage
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2", "1.2.3", "1.9"
    made.Modality, made.ImageType, made.PatientID = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "canary"
    made.ImagePositionPatient, made.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness, made.KVP = [0.5, 0.4], 2, 120
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = *EDGE, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType, made.PixelPaddingValue = 1, -1024, "HU", -2000
    if frames > 1:
        made.NumberOfFrames = frames
        shared = Dataset()
        shared.PixelMeasuresSequence = Sequence([_only(PixelSpacing=[0.5, 0.4])])
        shared.PixelValueTransformationSequence = Sequence([_only(RescaleSlope=1, RescaleIntercept=-1024)])
        groups = [
            _only(PlanePositionSequence=Sequence([_only(ImagePositionPatient=[1, 2, frame])]))
            for frame in range(frames)
        ]
        made.SharedFunctionalGroupsSequence = Sequence([shared])
        made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    made.PixelData = stored.tobytes()
    made["PixelData"].VR = "OW"
    return made


def _only(**values) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    made = {}
    for name, syntax in (
        ("explicit", ExplicitVRLittleEndian), ("implicit", ImplicitVRLittleEndian), ("rle", RLELossless),
        ("deflated", DeflatedExplicitVRLittleEndian), ("j2k", JPEG2000Lossless), ("jpeg-ls", JPEGLSLossless),
    ):  # fmt: skip
        one = image()
        if syntax.is_compressed and not syntax.is_deflated:
            one.compress(syntax)
        one.file_meta.TransferSyntaxUID = syntax
        made[name] = written(one)
    made["enhanced"] = written(image(3))
    (folder / "plain.dcm").write_bytes(made["explicit"])
    made["jpeg"] = lossless_jpeg(folder / "plain.dcm", folder / "jpeg.dcm")
    return made


def written(one: FileDataset) -> bytes:
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lossless_jpeg(path: Path, target: Path) -> bytes:
    """pydicom cannot write lossless JPEG; GDCM can."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(target).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    return target.read_bytes()


Draw = np.random.Generator
Operator = Callable[[bytearray, Draw], bytearray]


def _flip_bit(content: bytearray, draw: Draw) -> bytearray:
    content[draw.integers(len(content))] ^= 1 << int(draw.integers(8))
    return content


def _set_bytes(content: bytearray, draw: Draw) -> bytearray:
    start, size = int(draw.integers(len(content))), int(draw.integers(1, 9))
    content[start : start + size] = draw.bytes(len(content[start : start + size]))
    return content


def _set_extreme(content: bytearray, draw: Draw) -> bytearray:
    start = int(draw.integers(132, len(content) - 4))
    content[start : start + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80"][
        draw.integers(4)
    ]
    return content


def _cut(content: bytearray, draw: Draw) -> bytearray:
    return content[: int(draw.integers(len(content)))]


def _remove(content: bytearray, draw: Draw) -> bytearray:
    start = int(draw.integers(len(content)))
    del content[start : start + int(draw.integers(1, 64))]
    return content


def _insert(content: bytearray, draw: Draw) -> bytearray:
    start = int(draw.integers(len(content)))
    content[start:start] = draw.bytes(int(draw.integers(1, 64)))
    return content


def _repeat(content: bytearray, draw: Draw) -> bytearray:
    start, size = int(draw.integers(len(content))), int(draw.integers(8, 400))
    content[start:start] = content[start : start + size]
    return content


def _swap(content: bytearray, draw: Draw) -> bytearray:
    one, other = sorted(int(value) for value in draw.integers(132, len(content) - 16, 2))
    first, second = content[one : one + 8], content[other : other + 8]
    content[one : one + 8], content[other : other + 8] = second, first
    return content


def _zero(content: bytearray, draw: Draw) -> bytearray:
    start, size = int(draw.integers(132, len(content))), int(draw.integers(1, 200))
    content[start : start + size] = bytes(len(content[start : start + size]))
    return content


def _header_digit(content: bytearray, draw: Draw) -> bytearray:
    places = [at for at in range(132, min(len(content), 1400)) if 48 <= content[at] <= 57]
    content[places[draw.integers(len(places))]] = int(draw.integers(32, 128))
    return content


OPERATORS: tuple[Operator, ...] = (
    _flip_bit, _set_bytes, _set_extreme, _cut, _remove, _insert, _repeat, _swap, _zero, _header_digit,
)  # fmt: skip


def test_every_damaged_file_gets_an_answer(seeds, tmp_path):
    draw = np.random.default_rng(20_251)
    names = list(seeds)
    paths = []
    for number in range(MUTANTS):
        content = bytearray(seeds[names[number % len(names)]])
        for _ in range(int(draw.integers(1, 3))):
            content = OPERATORS[draw.integers(len(OPERATORS))](content, draw) or bytearray(b"\0")
            if len(content) < 400:
                break
        paths.append(tmp_path / f"{number:05d}")
        paths[-1].write_bytes(content)
    outcomes: Counter[str] = Counter()
    with Decoder(ReadLimits(cpu_s=5, wall_s=10.0)) as decoder:
        found = list(decoder.headers(paths))
        assert len(found) == MUTANTS
        headers = []
        for path, one in zip(paths, found, strict=True):
            if isinstance(one, Refusal):
                outcomes[_said(one, path)] += 1
            else:
                assert all(isinstance(header, Header) and header.path == path for header in one)
                headers += one[:2]
        for header, pixels in zip(headers, decoder.pixels(headers), strict=True):
            if isinstance(pixels, Refusal):
                outcomes[_said(pixels, header.path)] += 1
            else:
                assert isinstance(pixels, Pixels)
                assert pixels.hu.shape == (header.rows, header.columns)
                assert np.all(np.isfinite(pixels.hu))
                outcomes["read"] += 1
        restarts = decoder.num_started - 1
    assert outcomes["INTERNAL"] == 0, outcomes
    assert outcomes["DECODER_TIMEOUT"] == 0, outcomes
    assert outcomes["DECODER_CRASH"] == restarts
    assert outcomes["read"] > MUTANTS / 10
    assert len(outcomes) > 7, outcomes


def test_undamaged_seeds_are_read(seeds, tmp_path):
    expected = np.random.default_rng(3).integers(0, 3000, (1, *EDGE))[0] - 1024
    for name, content in seeds.items():
        (tmp_path / name).write_bytes(content)
    with Decoder() as decoder:
        for name in seeds:
            (headers,) = decoder.headers([tmp_path / name])
            assert isinstance(headers, list), name
            (pixels,) = decoder.pixels(headers[:1])
            assert isinstance(pixels, Pixels), name
            if name != "enhanced":
                np.testing.assert_array_equal(pixels.hu, expected)
    assert decoder.num_started == 1


def _said(refusal: Refusal, path: Path) -> str:
    assert refusal.path == path
    assert refusal.code in REASONS
    assert "canary" not in refusal.what
    return refusal.code
