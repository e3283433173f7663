"""The error tree: its exit codes are promises to scripts."""

import json

import pytest

from apatite.core import errors


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        ("ApatiteError", 1),
        ("ConfigError", 2),
        ("DataError", 3),
        ("ModelError", 3),
        ("TrainingError", 1),
        ("StorageError", 75),
    ],
)
def test_exit_codes(kind: str, exit_code: int) -> None:
    error = getattr(errors, kind)("what")
    assert isinstance(error, errors.ApatiteError)
    assert error.exit_code == exit_code
    assert json.loads(json.dumps(error.to_dict()))["exit_code"] == exit_code


def test_every_error_is_drawn_in_the_tree() -> None:
    drawn = errors.__doc__ or ""
    for kind in errors.ApatiteError.__subclasses__():
        assert kind.__name__ in drawn
        assert kind.__subclasses__() == []


def test_message_says_where_what_and_what_next() -> None:
    error = errors.DataError("label is 3×4, image 5×6", where="case 7", fix="export it again", code="GRID_MISMATCH")
    assert str(error) == "case 7: label is 3×4, image 5×6 [GRID_MISMATCH] -> export it again"
    assert str(errors.DataError("alone")) == "alone"
