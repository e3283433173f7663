"""What is set aside by its headers, and what is not."""

import math
from pathlib import Path

import pytest

from apatite.core.reasons import REASONS
from apatite.io.dicom.header import Header
from apatite.io.dicom.triage import (
    CONTRAST_WORDS,
    HEAD_WORDS,
    OTHER_WORDS,
    TEXT_WORDS,
    TYPE_WORDS,
    has_words,
    set_aside_code,
    tokens,
)

CT = "1.2.840.10008.5.1.4.1.1.2"


def head(**changes) -> Header:
    plain = {
        "path": Path("a"),
        "modality": "CT",
        "sop_class_uid": CT,
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "orientation_lps": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "series_description": "Head 5.0 H31s",
        "body_part": "HEAD",
    }
    return Header(**(plain | changes))


def code(**changes) -> str:
    return set_aside_code([head(**changes)] * 3)


def test_a_plain_head_is_not_set_aside():
    assert code() == ""
    assert set_aside_code([Header(path=Path("a"), modality="CT")]) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "LOCALIZER"),
        ({"series_description": "Topogramm  0.6  T80f"}, "LOCALIZER"),
        ({"series_description": "SCOUT lateral"}, "LOCALIZER"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.67", "modality": "SR"}, "SECONDARY"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, "SECONDARY"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4", "modality": "SEG"}, "SECONDARY"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.104.1", "modality": "DOC"}, "SECONDARY"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.11.1", "modality": "PR"}, "SECONDARY"),
        ({"series_description": "Dose Report"}, "SECONDARY"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4", "modality": "MR"}, "NOT_CT"),
        ({"modality": "PT", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.128"}, "NOT_CT"),
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL", "MIP")}, "DERIVED"),
        ({"image_type": ("DERIVED", "PRIMARY", "PERFUSION", "RCBF")}, "DERIVED"),
        ({"image_type": ("DERIVED", "SECONDARY", "OTHER")}, "DERIVED"),
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL", "AVERAGE")}, "DERIVED"),
        ({"series_description": "MonoE 70keV Head"}, "DERIVED"),
        ({"series_description": "Head VNC"}, "DERIVED"),
        ({"series_description": "BONE-REMOVAL head"}, "DERIVED"),
        ({"image_type": ("DERIVED", "SECONDARY", "REFORMATTED")}, "REFORMAT"),
        ({"image_type": ("DERIVED", "PRIMARY", "MPR")}, "REFORMAT"),
        ({"series_description": "Schädel MPR ax 5mm"}, "REFORMAT"),
        ({"orientation_lps": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)}, "NONAXIAL"),
        ({"orientation_lps": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}, "NONAXIAL"),
        ({"contrast": "ISOVUE300/100"}, "CONTRAST"),
        ({"contrast": "Non-ionic agent"}, "CONTRAST"),
        ({"series_description": "CTA 0.6 Hv40"}, "CONTRAST"),
        ({"series_description": "post contrast 5mm"}, "CONTRAST"),
        ({"series_description": "HEAD C+"}, "CONTRAST"),
        ({"series_description": "Kopf mit KM"}, "CONTRAST"),
        ({"series_description": "cráneo con contraste"}, "CONTRAST"),
        ({"series_description": "Angio cerebrale"}, "CONTRAST"),
        ({"series_description": "without and with contrast"}, "CONTRAST"),
        ({"series_description": "head w/wo contrast, with contrast"}, "CONTRAST"),
        ({"series_description": "pre and post contrast"}, "CONTRAST"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 MON")}, "CONTRAST"),
        ({"series_description": "", "protocol_name": "Angio Head"}, "CONTRAST"),
        ({"body_part": "CHEST", "series_description": "HELICAL"}, "NOT_HEAD"),
        ({"body_part": "", "series_description": "", "study_description": "CT Abdomen"}, "NOT_HEAD"),
        ({"burned_in": True}, "BURNED_IN"),
    ],
)
def test_each_reason(changes, expected):
    assert code(**changes) == expected
    assert REASONS[expected][0] == "set aside"


@pytest.mark.parametrize(
    "changes",
    [
        {"image_type": ("DERIVED", "PRIMARY", "AXIAL")},  # compressed with loss, else untouched
        {"image_type": ("DERIVED", "SECONDARY", "AXIAL")},  # Toshiba
        {"image_type": ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI")},
        {"image_type": ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"), "sop_class_uid": f"{CT}.1"},
        {"series_description": "Head without contrast"},
        {"series_description": "HEAD W/O CONTRAST"},
        {"series_description": "non-contrast head"},
        {"series_description": "Kopf ohne i.v. KM"},
        {"series_description": "Crâne sans injection, sans contraste"},
        {"series_description": "cabeza sin contraste"},
        {"series_description": "precontrast"},
        {"series_description": "head and neck without contrast"},
        {"series_description": "NCCT", "protocol_name": "Stroke CTA", "study_description": "CT HEAD W WO CONTRAST"},
        {"contrast": "NONE"},
        {"contrast": "no contrast"},
        {"contrast": " "},
        {"contrast": "N/A"},
        {"body_part": "", "series_description": ""},
        {"body_part": "HEADNECK"},
        {"body_part": "", "series_description": "Head-Chest-Abdomen"},
        {"series_description": "shipment"},  # holds `hip` and `mip` only as parts of a word
        {"orientation_lps": None},
        {"orientation_lps": (0.0,) * 6},
    ],
)
def test_what_says_nothing_against_a_head(changes):
    assert code(**changes) == ""


@pytest.mark.parametrize(("angle", "expected"), [(30.0, ""), (44.9, ""), (45.1, "NONAXIAL"), (-30.0, "")])
def test_a_tilted_gantry_is_axial_up_to_45_degrees(angle, expected):
    radians = math.radians(angle)
    orientation = (1.0, 0.0, 0.0, 0.0, math.cos(radians), math.sin(radians))
    assert code(orientation_lps=orientation) == expected


def test_one_image_that_says_so_is_enough():
    images = [head(), head(contrast="IOHEXOL"), head()]
    assert set_aside_code(images) == "CONTRAST"


def test_tokens_are_whole_words_without_accents():
    assert tokens("Schädel_H30s, w/o KM+") == ["schadel", "h", "30", "s", "wo", "km", "plus"]
    assert has_words("min-IP (10mm)", ["min ip"])
    assert not has_words("minimal ipsum", ["min ip"])


def test_every_word_of_the_tables_is_written_as_its_tokens():
    lists = [*TYPE_WORDS.values(), *TEXT_WORDS.values(), CONTRAST_WORDS, HEAD_WORDS, OTHER_WORDS]
    assert [word for words in lists for word in words if " ".join(tokens(word)) != word] == []
    assert max(len(word.split()) for word in CONTRAST_WORDS) == 2
