"""A listing reads back as written, and anything else is refused."""

import json
from pathlib import Path

import pytest

from apatite.core.errors import DataError
from apatite.io.dicom.header import Header
from apatite.io.dicom.listing import images_digest, is_listing, read_listing, write_listing
from apatite.io.dicom.series import Series


def series(root: Path) -> Series:
    headers = [
        Header(path=root / name, frame=frame, series_uid="1.2", sop_uid=f"1.2.{name}")
        for name, frame in (("b 1.dcm", 0), ("a/é.dcm", 3), ("a/é.dcm", 1))
    ]
    return Series(headers=tuple(headers), stack=None)


def test_paths_start_from_the_folder_of_the_listing(tmp_path):
    path = tmp_path / "study" / "m.series" / "s-0.series.json"
    (tmp_path / "dicom").mkdir()
    one = series(tmp_path / "dicom")
    write_listing(path, one)
    assert is_listing(path)
    assert not is_listing(tmp_path / "scan.nii.gz")
    assert json.loads(path.read_text())["files"][0] == ["../../dicom/b 1.dcm", 0]
    listing = read_listing(path)
    assert [(file.resolve(), frame) for file, frame in listing.files] == [
        (header.path, header.frame) for header in one.headers
    ]
    assert listing.series_uid == "1.2"
    assert listing.digest == images_digest(reversed(one.headers)) != images_digest(one.headers[:2])
    # Moved together, they still find each other.
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("study", "dicom"):
        (tmp_path / name).rename(moved / name)
    again = read_listing(moved / "study" / "m.series" / "s-0.series.json")
    assert again.files[0][0].resolve() == moved / "dicom" / "b 1.dcm"


GOOD = {"format": 1, "series_uid": "1", "digest": "d", "files": [["a", 0], ["b", 0]]}


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        json.dumps(GOOD | {"format": 2}),
        json.dumps(GOOD | {"more": 1}),
        json.dumps({key: GOOD[key] for key in ("format", "files", "digest")}),
        json.dumps(GOOD | {"series_uid": 1}),
        json.dumps(GOOD | {"files": []}),
        json.dumps(GOOD | {"files": [["a", 0], ["a", 0]]}),
        json.dumps(GOOD | {"files": [["a", -1]]}),
        json.dumps(GOOD | {"files": [["a", True]]}),
        json.dumps(GOOD | {"files": [["", 0]]}),
        json.dumps(GOOD | {"files": [["a\0b", 0]]}),
        json.dumps(GOOD | {"files": ["a"]}),
        json.dumps(GOOD | {"files": 3}),
        json.dumps(GOOD)[:-1] + ', "digest": "e"}',
    ],
)
def test_anything_else_is_refused_without_its_text(tmp_path, content):
    path = tmp_path / "s-1.series.json"
    path.write_text(json.dumps(GOOD))
    assert read_listing(path).files == ((tmp_path / "a", 0), (tmp_path / "b", 0))
    path.write_text(content)
    with pytest.raises(DataError, match="no list of DICOM files") as caught:
        read_listing(path, "case")
    assert (caught.value.code, caught.value.where) == ("IO_ERROR", "case")
    with pytest.raises(DataError):
        read_listing(tmp_path / "missing.series.json")
