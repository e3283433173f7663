"""A result counts only whole; tables hold no formula."""

import csv
import shutil

import pytest

from apatite.batch.attempt import settle
from apatite.batch.rows import Row, read_done, to_csv, to_jsonl, write_done
from apatite.core.errors import StorageError

ROW = Row(case_id="c1", verdict="done", elapsed_s=1.25, attempts=2, flags=("GAP", "TILT"))


@pytest.fixture
def result(tmp_path):
    folder = tmp_path / "result"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.bin").write_bytes(b"\x00\x01")
    (folder / "deep" / "two.txt").write_text("two")
    write_done(folder, ROW)
    return folder


def test_what_was_written_is_read(result):
    assert read_done(result) == ROW


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "one.bin").write_bytes(b"\x00\x02"),
        lambda folder: (folder / "one.bin").write_bytes(b"\x00\x01\x02"),
        lambda folder: (folder / "deep" / "two.txt").unlink(),
        lambda folder: (folder / "three.txt").write_text(""),
        lambda folder: (folder / "done.json").write_text((folder / "done.json").read_text()[:40]),
        lambda folder: (folder / "done.json").write_text("[]"),
        lambda folder: (folder / "done.json").write_text('{"row": {"case_id": "c"}, "files": {}}'),
        lambda folder: (folder / "done.json").unlink(),
        shutil.rmtree,
    ],
)
def test_what_was_harmed_is_no_result(result, harm):
    harm(result)
    assert read_done(result) is None


def test_of_two_rows_for_one_case_the_first_stays(tmp_path):
    other = Row(case_id="c1", verdict="failed", code="OOM")
    assert settle(tmp_path / "result", ROW) == ROW
    assert settle(tmp_path / "result", other) == ROW
    assert read_done(tmp_path / "result") == ROW


def test_a_row_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError):
        settle(tmp_path / "file" / "result", ROW)


def test_no_cell_is_a_formula():
    row = Row(case_id="c1", verdict="failed", what="=1+1", where="@x", fix="-2", code="OOM")
    (read,) = csv.DictReader(to_csv([row]).splitlines())
    assert (read["what"], read["where"], read["fix"], read["code"]) == ("'=1+1", "'@x", "'-2", "OOM")
    assert '"what": "=1+1"' in to_jsonl([row])


def test_a_table_of_nothing_is_empty():
    assert to_csv([]) == to_jsonl([]) == ""
