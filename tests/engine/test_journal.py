"""A journal never shows a step twice, and never a torn row."""

import json

import pytest

from apatite.engine.journal import Journal


@pytest.fixture
def journal(tmp_path) -> Journal:
    made = Journal(tmp_path / "metrics.jsonl")
    for step in range(5):
        made.write({"step": step, "loss": 1 / (3 + step)})
    return made


def test_rows_come_back_bit_equal(journal):
    assert journal.rows() == [{"step": step, "loss": 1 / (3 + step)} for step in range(5)]
    assert Journal(journal.path.with_name("none.jsonl")).rows() == []


@pytest.mark.parametrize("kept", range(1, 20, 3))
def test_a_torn_last_row_is_dropped(journal, kept):
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[: whole.rindex(b'{"step": 4') + kept])
    assert [row["step"] for row in journal.rows()] == [0, 1, 2, 3]


def test_rewinding_drops_that_step_and_later_for_good(journal):
    with journal.path.open("ab") as file:
        file.write(b'{"step": 5, "lo')
    journal.rewind(3)
    journal.write({"step": 3, "loss": 7.0})
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in lines] == [(0, 1 / 3), (1, 1 / 4), (2, 1 / 5), (3, 7.0)]


def test_rewinding_what_is_not_there_makes_no_file(tmp_path):
    Journal(tmp_path / "metrics.jsonl").rewind(0)
    assert not list(tmp_path.iterdir())


def test_numbers_that_json_has_no_word_for_become_null(journal):
    journal.write({"step": 5, "loss": float("nan"), "rank": float("inf"), "dice": float("-inf"), "n": 3})
    assert journal.path.read_text().splitlines()[-1] == '{"step": 5, "loss": null, "rank": null, "dice": null, "n": 3}'
