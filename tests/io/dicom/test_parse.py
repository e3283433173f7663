"""Headers of classic, enhanced, implicit, deflated, big-endian and headless files; bombs; values that are no values."""

import io
import math
import os
import struct
import time
import zlib

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from apatite.io.dicom.header import Header, Refusal
from apatite.io.dicom.limits import ReadLimits
from apatite.io.dicom.parse import parse_headers


def header(path, limits=None) -> Header:
    found = parse_headers(path, limits)
    assert isinstance(found, list), found
    assert len(found) == 1
    return found[0]


def code(path, limits=None) -> str:
    found = parse_headers(path, limits)
    assert isinstance(found, Refusal), found
    assert "canary" not in found.what.lower()
    return found.code


def code_in_time(decoder, path) -> str:
    """The code, within the 5 seconds that a bomb may take; in the child, where nothing checks types meanwhile."""
    began = time.monotonic()
    (found,) = decoder.headers([path])
    assert isinstance(found, Refusal), found
    assert time.monotonic() - began < 5
    return found.code


def content_of(image) -> bytes:
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def data_start(content: bytes) -> int:
    """Where the file meta information ends, by its group length."""
    return 132 + 12 + struct.unpack_from("<I", content, 140)[0]


def test_what_a_header_says(write_ct):
    one = header(write_ct(3))
    assert (one.rows, one.columns, one.frames, one.bits_stored, one.high_bit) == (12, 20, 1, 16, 15)
    assert one.is_signed
    assert one.position_lps_mm == (-110.5, -95.25, 27.5)
    assert one.orientation_lps == (1, 0, 0, 0, 1, 0)
    assert one.pixel_spacing_mm == (5.0, 4.0)
    assert (one.slope, one.intercept, one.rescale_type) == (1.0, -1024.0, "HU")
    assert (one.modality, one.image_type) == ("CT", ("ORIGINAL", "PRIMARY", "AXIAL"))
    assert (one.kernel, one.vendor, one.kvp, one.thickness_mm) == ("H30s", "MAKER", 120.0, 2.5)
    assert (one.series_uid, one.sop_uid, one.instance_number) == ("1.2.3.4", "1.2.3.4.4", 4)
    assert one.pixel_bytes == 12 * 20 * 2
    assert one.transfer_syntax_uid == "1.2.840.10008.1.2.1"


def test_a_patient_is_told_apart_without_being_named(write_ct):
    first, again = header(write_ct(0)), header(write_ct(1))
    other = header(write_ct(2, PatientID="canary-id2"))
    born = header(write_ct(3, PatientBirthDate="19330102"))
    assert first.patient == again.patient
    assert len({first.patient, other.patient, born.patient}) == 3
    assert len(first.patient) == 64
    assert "canary" not in str(vars(first)).lower()
    assert header(write_ct(4, PatientID="", PatientBirthDate="")).patient == ""


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_say_the_same(syntax, write_ct, make_ct, tmp_path):
    image = make_ct(0)
    image.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        image.PixelData = np.frombuffer(image.PixelData, "<i2").astype(">i2").tobytes()
    image.ReferencedImageSequence = Sequence([Dataset(), Dataset()])
    is_little, is_implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    encoding = {"little_endian": is_little, "implicit_vr": is_implicit}
    dcmwrite(tmp_path / "other.dcm", image, force_encoding=True, **encoding)
    plain, other = header(write_ct(0)), header(tmp_path / "other.dcm")
    assert other.transfer_syntax_uid == syntax
    differing = {name for name in vars(plain) if getattr(plain, name) != getattr(other, name)}
    assert differing == {"path", "transfer_syntax_uid"}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.1"])
def test_without_preamble_and_file_meta(syntax, make_ct, tmp_path):
    image = make_ct(0)
    image.file_meta.TransferSyntaxUID = syntax
    content = content_of(image)
    (tmp_path / "no-preamble").write_bytes(content[132:])
    assert header(tmp_path / "no-preamble").transfer_syntax_uid == syntax
    start = data_start(content)
    (tmp_path / "no-meta").write_bytes(content[start:])
    assert header(tmp_path / "no-meta").transfer_syntax_uid == syntax


def test_without_file_meta_an_instance_must_be_named(make_ct, tmp_path):
    image = make_ct(0)
    del image.SOPInstanceUID
    content = content_of(image)
    start = data_start(content)
    (tmp_path / "no-meta").write_bytes(content[start:])
    assert code(tmp_path / "no-meta") == "NOT_DICOM"


@pytest.mark.parametrize(
    ("value", "slope"),
    [(b"1.5 ", 1.5), (b"+2e0 ", 2.0), (b".5", 0.5), (b"1,5 ", None), (b"one ", None), (b"1\\1 ", None), (b"", None),
     (b"1_0 ", None), (b"1" * 70, None), (b"\xb2\xb2", None), (b"1e999 ", math.inf), (b"-inf", -math.inf)],
)  # fmt: skip
def test_a_number_that_is_none_is_not_guessed(value, slope, tmp_path, write_ct):
    content = write_ct(0).read_bytes()
    old = b"\x28\x00\x53\x10DS\x04\x001.0 "
    assert content.count(old) == 1
    new = b"\x28\x00\x53\x10DS" + struct.pack("<H", len(value)) + value
    (tmp_path / "changed.dcm").write_bytes(content.replace(old, new))
    assert header(tmp_path / "changed.dcm").slope == slope


def test_nan_is_told_from_nothing(write_ct, tmp_path):
    content = write_ct(0).read_bytes()
    new = content.replace(b"\x28\x00\x53\x10DS\x04\x001.0 ", b"\x28\x00\x53\x10DS\x04\x00NaN ")
    (tmp_path / "nan.dcm").write_bytes(new)
    assert math.isnan(header(tmp_path / "nan.dcm").slope)


def test_an_element_given_twice_counts_as_not_given(write_ct, tmp_path):
    content = write_ct(0).read_bytes()
    old = b"\x28\x00\x53\x10DS\x04\x001.0 "
    (tmp_path / "twice.dcm").write_bytes(content.replace(old, old + old.replace(b"1.0", b"2.0")))
    assert header(tmp_path / "twice.dcm").slope is None


def test_padding_as_the_element_says(write_ct):
    assert header(write_ct(0)).padding is None
    image = write_ct(0, PixelPaddingValue=-2000)
    assert header(image).padding == (-2000, -2000)
    image = write_ct(0, stored=np.full((12, 20), 7, np.uint16), PixelPaddingValue=63536, PixelPaddingRangeLimit=63000)
    assert header(image).padding == (63536, 63000)


def test_text_in_another_character_set(write_ct):
    image = write_ct(0, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel")
    assert header(image).series_description == "Schädel"
    image = write_ct(0, SpecificCharacterSet="ISO_IR 192", SeriesDescription="頭部")
    assert header(image).series_description == "頭部"


def test_a_character_set_that_does_not_exist_is_no_error(write_ct, tmp_path):
    content = write_ct(0, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel").read_bytes()
    (tmp_path / "odd.dcm").write_bytes(content.replace(b"ISO_IR 100", b"NONE_OF_IT"))
    assert header(tmp_path / "odd.dcm").series_description


def test_contrast_and_derivation_may_stand_in_sequences(write_ct):
    agent, derivation = Dataset(), Dataset()
    agent.CodeMeaning, derivation.CodeMeaning = "Iohexol", "Maximum intensity projection"
    said = {"ContrastBolusAgentSequence": Sequence([agent]), "DerivationCodeSequence": Sequence([derivation])}
    one = header(write_ct(0, PatientAge="066Y", **said))
    assert (one.contrast, one.derivation, one.age_years) == ("Iohexol", "Maximum intensity projection", 66.0)
    assert not one.has_lookup


def test_a_lookup_table_is_seen(write_ct):
    table = Dataset()
    table.ModalityLUTType = "HU"
    assert header(write_ct(0, ModalityLUTSequence=Sequence([table]))).has_lookup


def test_frames_of_an_enhanced_file(write_enhanced):
    found = parse_headers(write_enhanced(5))
    assert isinstance(found, list)
    assert [one.frame for one in found] == [0, 1, 2, 3, 4]
    # Image (3 frame + 1) mod 5 lies at 20 mm + 2.5 mm each.
    assert [one.position_lps_mm[2] for one in found] == [22.5, 30.0, 25.0, 20.0, 27.5]
    for one in found:
        assert (one.slope, one.intercept, one.pixel_spacing_mm, one.frames) == (1.0, -1024.0, (5.0, 4.0), 5)


def test_frames_that_the_groups_do_not_have(write_enhanced):
    assert code(write_enhanced(5, NumberOfFrames=4)) == "LENGTH_LIE"
    assert code(write_enhanced(5, NumberOfFrames=0)) == "BAD_PIXELS"
    assert code(write_enhanced(5), ReadLimits(frames=4)) == "TOO_LARGE"


@pytest.mark.parametrize("cut", [0, 1, 15])
def test_too_short(cut, write_ct, tmp_path):
    (tmp_path / "cut").write_bytes(write_ct(0).read_bytes()[:cut])
    assert code(tmp_path / "cut") == ("NOT_DICOM" if cut else "TRUNCATED")


def test_every_truncation_is_seen(write_ct, tmp_path):
    content = write_ct(0).read_bytes()
    codes = set()
    for length in [*range(16, len(content) - 40, 5), *range(len(content) - 40, len(content))]:
        (tmp_path / "cut").write_bytes(content[:length])
        found = parse_headers(tmp_path / "cut")
        if isinstance(found, Refusal):
            codes.add(found.code)
        else:
            # Cut exactly between two elements before the pixels: what is left is whole, but has none.
            assert found[0].pixel_bytes == 0
    assert codes == {"TRUNCATED", "NOT_DICOM"}


def test_a_truncated_file_still_names_its_series(write_ct, tmp_path):
    (tmp_path / "cut").write_bytes(write_ct(0).read_bytes()[:-1])
    found = parse_headers(tmp_path / "cut")
    assert isinstance(found, Refusal)
    assert (found.code, found.series_uid, found.tag) == ("TRUNCATED", "1.2.3.4", "PixelData")


def test_pixels_must_be_as_many_as_the_header_says(write_ct):
    assert code(write_ct(0, Rows=13)) == "TRUNCATED"
    assert code(write_ct(0, Rows=11)) == "LENGTH_LIE"


def test_a_length_that_its_bytes_do_not_have(write_ct, tmp_path):
    content = write_ct(0).read_bytes()
    lie = content.replace(b"\x08\x00\x70\x00LO\x06\x00", b"\x08\x00\x70\x00UT\x00\x00\xf0\xff\xff\x7f")
    assert lie != content
    (tmp_path / "lie").write_bytes(lie)
    assert code(tmp_path / "lie") == "LENGTH_LIE"


def test_no_dicom(tmp_path):
    (tmp_path / "text").write_text("Patient: nobody. This is a text of more than sixteen letters.")
    assert code(tmp_path / "text") == "NOT_DICOM"
    (tmp_path / "zeros").write_bytes(b"\0" * 1000)
    assert code(tmp_path / "zeros") == "NOT_DICOM"


def test_only_regular_files_are_opened(tmp_path, write_ct):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(write_ct(0))
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, tmp_path / "none"):
        assert code(path) == "IO_ERROR"


def test_nested_five_thousand_deep(make_ct, tmp_path, decoder):
    opening = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    content = content_of(make_ct(0))
    start = data_start(content)
    (tmp_path / "deep").write_bytes(content[:start] + opening * 5000 + content[start:])
    assert code_in_time(decoder, tmp_path / "deep") == "TOO_DEEP"


def test_a_million_elements(make_ct, tmp_path, decoder):
    content = content_of(make_ct(0))
    start = data_start(content)
    one = b"\x09\x00\x10\x10UN\x00\x00\x00\x00\x00\x00"
    (tmp_path / "many").write_bytes(content[:start] + one * 1_000_000 + content[start:])
    assert code_in_time(decoder, tmp_path / "many") == "TOO_LARGE"


def test_too_much_before_the_pixels(write_ct):
    assert code(write_ct(0), ReadLimits(header_bytes=200)) in ("TOO_LARGE", "LENGTH_LIE")
    assert code(write_ct(0), ReadLimits(file_bytes=400)) == "TOO_LARGE"


def test_a_deflated_bomb(make_ct, tmp_path, decoder):
    image = make_ct(0)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = content_of(image)
    start = data_start(content)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(b"\0" * 2**20) for _ in range(200)) + packer.flush()
    (tmp_path / "bomb").write_bytes(content[:start] + bomb)
    assert code_in_time(decoder, tmp_path / "bomb") == "BOMB"
    (tmp_path / "cut").write_bytes(content[:-10])
    assert code(tmp_path / "cut") == "TRUNCATED"


def test_real_files(real):
    for path in sorted(real("head_ct_ge/dicom").glob("*.dcm")):
        one = header(path)
        assert (one.rows, one.columns, one.tilt_deg, one.padding) == (512, 512, 18.5, (-1500, -1500))
    found = parse_headers(real("codecs/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm"))
    assert isinstance(found, list)
    assert [one.frame for one in found] == [0, 1]
