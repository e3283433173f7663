"""Names that lead back to no one, and stay the same."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from apatite.core.errors import DataError
from apatite.io.case import CASE_ID
from apatite.io.dicom.header import Header
from apatite.io.dicom.opaque import PatientKey, read_or_make_key, safe_uid, series_case_id

ONE = Header(path=Path("a"), patient="0" * 64, study_uid="1.2", series_uid="1.2.3", sop_uid="1.2.3.4")


def test_a_key_is_made_once_for_its_owner_only(tmp_path):
    path = tmp_path / "study" / "m.patient-key"
    key = read_or_make_key(path, is_made=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_key(path, is_made=True) == key == read_or_make_key(path, is_made=False)
    assert read_or_make_key(tmp_path / "other", is_made=True) != key
    assert len(key.secret) == 32
    with pytest.raises(DataError, match="cannot be read"):
        read_or_make_key(tmp_path / "missing", is_made=False)
    for text in ("", "ab" * 31, "x" * 64, "ab" * 33):
        path.write_text(text)
        with pytest.raises(DataError, match="no patient key"):
            read_or_make_key(path, is_made=True)


def test_names_depend_on_the_key_and_on_what_they_name():
    key, other = PatientKey(b"k" * 32), PatientKey(b"o" * 32)
    names = {
        key.patient_id(ONE),
        other.patient_id(ONE),
        key.patient_id(replace(ONE, patient="1" * 64)),
        key.study(ONE),
        key.study(replace(ONE, study_uid="1.3")),
        key.study(replace(ONE, patient="1" * 64)),
        series_case_id([ONE]),
        series_case_id([replace(ONE, sop_uid="1.2.3.5")]),
    }
    assert len(names) == 8
    assert all(CASE_ID.fullmatch(name) and len(name) == 14 for name in names)
    assert key.patient_id(replace(ONE, study_uid="9", path=Path("b"))) == key.patient_id(ONE)


def test_images_without_a_patient_are_one_patient_per_study():
    key = PatientKey(b"k" * 32)
    first, second = replace(ONE, patient=""), replace(ONE, patient="", study_uid="1.9")
    assert key.patient_id(first) == key.patient_id(replace(first, series_uid="5")) != key.patient_id(second)


def test_a_series_is_called_the_same_in_any_order_and_place():
    images = [replace(ONE, sop_uid=f"1.{index}", path=Path(f"{index}")) for index in range(4)]
    moved = [replace(image, path=Path("x") / image.path) for image in reversed(images)]
    assert series_case_id(images) == series_case_id(moved)


def test_stacks_of_one_series_differ_even_without_uids():
    bare = replace(ONE, sop_uid="", kernel="A")
    others = [replace(bare, kernel="B"), replace(bare, orientation_lps=(1.0, 0, 0, 0, 1.0, 0)), replace(bare, rows=9)]
    assert len({series_case_id([one]) for one in (bare, *others)}) == 4


def test_a_uid_is_digits_and_dots():
    assert safe_uid("1.2.840") == "1.2.840"
    assert [safe_uid(text) for text in ("../1", "1" * 65, "1.2\n", "", "=1")] == [""] * 5
