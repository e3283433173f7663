"""Stored values to HU, against arithmetic by hand, against pydicom, and one decoder against another."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from apatite.io.dicom.codecs import decode_frame
from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.pixels import PixelReader, Pixels, to_hu
from apatite.io.dicom.refused import RefusedError

HEADER = Header(
    path=Path("one.dcm"),
    rows=1,
    columns=1,
    slope=1.0,
    intercept=-1024.0,
    bits_allocated=16,
    bits_stored=16,
    high_bit=15,
)


def pixels(path, frame=0) -> Pixels:
    found = PixelReader(ReadLimits()).read(path, frame)
    assert isinstance(found, Pixels), found
    return found


def code(path, frame=0) -> str:
    found = PixelReader(ReadLimits()).read(path, frame)
    assert isinstance(found, Refusal), found
    return found.code


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("junk", [0, 0xFFFF])
def test_no_stored_value_wraps(bits, is_signed, junk, write_ct):
    """All 2^16 patterns: the bits stored count, those above are dropped, HU = stored - 1024 or it is padding."""
    patterns = np.arange(65_536, dtype=np.uint32)
    stored = ((patterns & ((1 << bits) - 1)) | (junk << bits)).astype(np.uint16).reshape(128, 512)
    image = write_ct(
        0, stored=stored, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(is_signed), RescaleIntercept=-1024
    )
    value = patterns.astype(np.int64) & ((1 << bits) - 1)
    if is_signed:
        value = np.where(value >= 1 << (bits - 1), value - (1 << bits), value)
    expected = np.maximum(value - 1024, -1024).reshape(128, 512)
    found = pixels(image)
    np.testing.assert_array_equal(found.hu, expected)
    assert found.hu.dtype == (np.int16 if expected.max() <= 32_767 else np.float32)
    is_below = (value < 0).reshape(128, 512)
    np.testing.assert_array_equal(np.zeros_like(is_below) if found.is_padding is None else found.is_padding, is_below)
    assert found.is_clipped


def test_a_high_bit_above_the_bits_stored(write_ct):
    stored = (np.arange(240, dtype=np.uint16).reshape(12, 20) << 4) | 0xF
    assert np.array_equal(
        pixels(write_ct(0, stored=stored, BitsStored=12, HighBit=15)).hu.ravel(), np.arange(240) - 1024
    )


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(2.0, -1000.0, np.int16), (0.5, -1024.0, np.float32), (1.0, -1023.75, np.float32)]
)
def test_a_rescale_is_exact(slope, intercept, dtype):
    stored = np.arange(0, 4096, dtype=np.int32).reshape(64, 64)
    found = to_hu(stored, replace(HEADER, slope=slope, intercept=intercept))
    assert found.hu.dtype == dtype
    expected = np.maximum(slope * stored.astype(np.float64) + intercept, -1024)
    np.testing.assert_array_equal(found.hu, expected)


def test_whole_values_of_a_broken_slope_stay_whole():
    found = to_hu(np.array([[0, 2, 4]], np.int32), replace(HEADER, slope=0.5))
    assert found.hu.dtype == np.int16
    assert found.hu.tolist() == [[-1024, -1023, -1022]]


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("padding", [(-2000, -2000), (63536, 63536)])
def test_padding_written_with_the_other_sign(is_signed, padding):
    value = -2000 if is_signed else 63536
    header = replace(HEADER, is_signed=is_signed, padding=padding, intercept=0.0 if is_signed else -63536.0 - 1024.0)
    found = to_hu(np.array([[value, 100 if is_signed else 65000]], np.int32), header)
    assert found.hu[0, 0] == -1024
    assert found.is_padding is not None
    assert found.is_padding.tolist() == [[True, False]]


def test_a_padding_range():
    header = replace(HEADER, is_signed=True, intercept=0.0, padding=(-900, -1000))
    found = to_hu(np.array([[-1001, -1000, -950, -900, -899, -1025]], np.int32), header)
    assert found.hu.tolist() == [[-1001, -1024, -1024, -1024, -899, -1024]]
    assert found.is_padding is not None
    assert found.is_padding.tolist() == [[False, True, True, True, False, True]]


def test_padding_that_cannot_be_stored_is_no_pixel():
    header = replace(HEADER, bits_stored=12, high_bit=11, padding=(63536, 63536), intercept=0.0)
    assert to_hu(np.array([[63536 & 0xFFF, 5]], np.int32), header).is_padding is None


def test_padding_that_tissue_has_is_refused():
    with pytest.raises(RefusedError) as refused:
        to_hu(np.array([[1064, 0]], np.int32), replace(HEADER, padding=(1064, 1064)))
    assert refused.value.code == "BAD_PIXELS"


def test_beyond_what_hounsfield_units_can_be():
    with pytest.raises(RefusedError) as refused:
        to_hu(np.array([[65_535]], np.int32), replace(HEADER, slope=2.0))
    assert refused.value.code == "HU_RANGE"


def test_monochrome1_never_turns_values_round(write_ct):
    one, two = pixels(write_ct(0)), pixels(write_ct(0, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(one.hu, two.hu)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"RescaleSlope": None}, "NO_HU"),
        ({"RescaleIntercept": None}, "NO_HU"),
        ({"RescaleType": "US"}, "NO_HU"),
        ({"RescaleSlope": 0}, "BAD_RESCALE"),
        ({"RescaleSlope": -1}, "BAD_RESCALE"),
        ({"RescaleSlope": "1E+30"}, "BAD_RESCALE"),
        ({"RescaleIntercept": "1E+30"}, "BAD_RESCALE"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "BAD_PIXELS"),
        ({"BitsStored": 17}, "BAD_PIXELS"),
        ({"HighBit": 10}, "BAD_PIXELS"),
        ({"PixelRepresentation": None}, "BAD_PIXELS"),
        ({"PixelRepresentation": 2}, "BAD_PIXELS"),
        ({"Rows": None}, "BAD_PIXELS"),
        ({"Columns": 0}, "BAD_PIXELS"),
        ({"ModalityLUTSequence": Sequence([Dataset()])}, "NO_HU"),
    ],
)
def test_what_cannot_be_hounsfield_units(changes, expected, write_ct):
    assert code(write_ct(0, **changes)) == expected


def test_no_pixels_and_too_many(make_ct, tmp_path):
    image = make_ct(0)
    del image.PixelData
    image.save_as(tmp_path / "none.dcm", enforce_file_format=True)
    assert code(tmp_path / "none.dcm") == "NO_PIXELS"
    make_ct(0, stored=np.zeros((1, 4097), np.int16)).save_as(tmp_path / "wide.dcm", enforce_file_format=True)
    assert code(tmp_path / "wide.dcm") == "TOO_LARGE"


def test_eight_bits(write_ct):
    stored = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
    np.testing.assert_array_equal(pixels(write_ct(0, stored=stored)).hu, stored.astype(int) - 1024)
    assert code(write_ct(0, stored=stored, LossyImageCompression="01")) == "LOSSY_8BIT"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(
    ("dtype", "bits", "low"), [(np.int16, 16, -2000), (np.uint16, 12, 0), (np.uint16, 16, 0), (np.uint8, 8, 0)]
)
def test_a_lossless_codec_gives_the_same(syntax, dtype, bits, low, write_ct):
    stored = np.random.default_rng(4).integers(low, min(4000, 1 << bits), (34, 46)).astype(dtype)
    path = write_ct(0, stored=stored, syntax=syntax, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(pixels(path).hu, np.maximum(stored.astype(int) - 1024, -1024))


def test_frames_of_an_enhanced_file(write_enhanced, stored_of):
    for syntax in ("", RLELossless):
        path, reader = write_enhanced(5, syntax=syntax), PixelReader(ReadLimits())
        for frame, number in enumerate([1, 4, 2, 0, 3]):
            found = reader.read(path, frame)
            assert isinstance(found, Pixels)
            np.testing.assert_array_equal(found.hu, stored_of(number).astype(int) - 1024)
        assert isinstance(reader.read(path, 5), Refusal)


def test_frames_in_several_fragments_are_found_by_the_offset_table(write_ct, write_enhanced, tmp_path):
    image = pydicom.dcmread(write_enhanced(2, syntax=RLELossless))
    first, second = pydicom.encaps.generate_frames(image.PixelData, number_of_frames=2)
    parts = [first[:100], first[100:], second]
    items = [b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in parts]
    begin = len(items[0]) + len(items[1])
    table = b"\xfe\xff\x00\xe0\x08\x00\x00\x00" + (0).to_bytes(4, "little") + begin.to_bytes(4, "little")
    for name, start in (("offsets.dcm", table), ("none.dcm", b"\xfe\xff\x00\xe0\x00\x00\x00\x00")):
        image.PixelData = start + b"".join(items)
        image.save_as(tmp_path / name)
    whole = [pixels(write_enhanced(2, name="whole.dcm"), frame).hu for frame in range(2)]
    for frame in range(2):
        np.testing.assert_array_equal(pixels(tmp_path / "offsets.dcm", frame).hu, whole[frame])
    assert code(tmp_path / "none.dcm") == "BAD_PIXELS"


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_a_codestream_of_another_size_is_not_decoded(syntax, write_ct):
    path = write_ct(0, stored=np.zeros((34, 46), np.int16), syntax=syntax)
    image = pydicom.dcmread(path)
    image.Rows, image.Columns = 46, 34 + 1
    image.save_as(path)
    assert code(path) == ("TRUNCATED" if syntax == RLELossless else "BAD_PIXELS")


def test_values_beyond_the_bits_stored_are_not_wrapped(write_ct):
    path = write_ct(0, stored=np.full((12, 20), 5000, np.uint16), syntax=JPEGLSLossless)
    image = pydicom.dcmread(path)
    image.BitsStored, image.HighBit = 12, 11
    image.save_as(path)
    assert code(path) == "BAD_PIXELS"


def test_a_run_that_goes_on_for_ever(write_ct):
    path = write_ct(0, syntax=RLELossless)
    image = pydicom.dcmread(path)
    data = (2).to_bytes(4, "little") + (64).to_bytes(4, "little") + (64 + 2**20).to_bytes(4, "little") + bytes(52)
    data += b"\x81\x07" * 2**20
    image.PixelData = pydicom.encaps.encapsulate([data])
    image.save_as(path)
    assert pixels(path).hu.max() == 0x0707 - 1024


LOSSLESS = (
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90", "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70", "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1", "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
)  # fmt: skip
REFUSED = {
    "CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": "LOSSY_8BIT",
    "CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": "LOSSY_8BIT",
    "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": "LOSSY_8BIT",
    "CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "SYNTAX_UNSUPPORTED",
    "CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": "SYNTAX_UNSUPPORTED",
    "no-pixel-data.dcm": "NO_PIXELS",
    "no-pixel-spacing.dcm": "BAD_PIXELS",
}
# What near-lossless JPEG-LS and lossy JPEG 2000 did to this image, in HU.
LOSSY = {
    "CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm": 1,
    "CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm": 5,
}


def plain_hu(path: Path) -> np.ndarray:
    image = pydicom.dcmread(path)
    hu = image.pixel_array.astype(np.float64) * float(image.RescaleSlope) + float(image.RescaleIntercept)
    return np.maximum(hu, -1024)


def test_one_image_in_every_syntax(real):
    folder = real("codecs")
    expected = plain_hu(folder / "CTImage.dcm")
    np.testing.assert_array_equal(pixels(folder / "CTImage.dcm").hu, expected)
    for name in LOSSLESS:
        np.testing.assert_array_equal(pixels(folder / f"CTImage.dcm_{name}.dcm").hu, expected, err_msg=name)
    for name, most in LOSSY.items():
        assert np.abs(pixels(folder / name).hu - expected).max() == most, name
    for name, expected_code in REFUSED.items():
        assert code(folder / name) == expected_code, name
    for name in ("CT1_J2KR", "CT2_J2KR"):
        np.testing.assert_array_equal(pixels(folder / name).hu, plain_hu(folder / name))


def test_two_decoders_agree(real):
    """The decoder that is used, and GDCM, on every compressed image that may be used."""
    folder = real("codecs")
    names = ["CT1_J2KR", "CT2_J2KR", *LOSSY, *(f"CTImage.dcm_{name}.dcm" for name in LOSSLESS)]
    compressed = 0
    for name in names:
        image = pydicom.dcmread(folder / name)
        syntax = image.file_meta.TransferSyntaxUID
        # pydicom's RLE has no second decoder here but ours.
        if not syntax.is_compressed or syntax.is_deflated or syntax == RLELossless:
            continue
        compressed += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.pixel_array_options(decoding_plugin="gdcm")
            hu = image.pixel_array.astype(int) * int(image.RescaleSlope) + int(image.RescaleIntercept)
        np.testing.assert_array_equal(pixels(folder / name).hu, np.maximum(hu, -1024), err_msg=name)
    assert compressed == 8


def test_a_codestream_that_lacks_its_second_half_is_not_filled_in(real):
    """Also where it looks whole: with its end marker, which lets libjpeg go on with a warning only."""
    for name in LOSSLESS:
        image = pydicom.dcmread(real("codecs") / f"CTImage.dcm_{name}.dcm")
        syntax = image.file_meta.TransferSyntaxUID
        if not syntax.is_compressed or syntax.is_deflated:
            continue
        (data,) = pydicom.encaps.generate_frames(image.PixelData, number_of_frames=1)
        header = replace(HEADER, rows=512, columns=512, is_signed=True, transfer_syntax_uid=str(syntax))
        assert decode_frame(data, header).shape == (512, 512)
        with pytest.raises(RefusedError):
            decode_frame(data[: len(data) // 2] + b"\xff\xd9", header)


def test_a_file_without_pixels_is_no_codestream():
    for syntax in (JPEG2000Lossless, JPEGLSLossless, "1.2.840.10008.1.2.4.70", RLELossless):
        for data in (b"", b"\xff\xd8", b"\xff\x4f\xff\x51" + bytes(100), bytes(64)):
            with pytest.raises(RefusedError):
                decode_frame(data, replace(HEADER, transfer_syntax_uid=str(syntax)))


def test_deflated_frames(make_ct, tmp_path, stored_of):
    image = make_ct(3)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.save_as(tmp_path / "deflated.dcm")
    np.testing.assert_array_equal(pixels(tmp_path / "deflated.dcm").hu, stored_of(3).astype(int) - 1024)
