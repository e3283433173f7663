"""Readings and trainings are told apart by their names, and like is compared with like."""

import pytest

from apatite.core.errors import ConfigError
from apatite.study.compare.entrants import entrants_of
from apatite.study.compare.sides import pairs_of, run_name, sides_of


def names(pairs) -> list[tuple[str, str]]:
    return [(baseline.name, model.name) for baseline, model in pairs]


def test_trainings_of_one_model_are_one_side_per_reading() -> None:
    titles = ["a #1", "a #1 + calibrated", "a #2", "a #2 + calibrated", "b", "b + calibrated", "c #10"]
    sides = sides_of(titles)
    assert [(side.name, side.runs) for side in sides] == [
        ("a", ("a #1", "a #2")),
        ("a + calibrated", ("a #1 + calibrated", "a #2 + calibrated")),
        ("b", ("b",)),
        ("b + calibrated", ("b + calibrated",)),
        ("c", ("c #10",)),
    ]
    assert run_name("a", 2) == "a #2"


def test_like_is_compared_with_like() -> None:
    sides = sides_of(["a", "a + calibrated", "b", "b + calibrated"])
    assert names(pairs_of(sides)) == [("a", "b"), ("a + calibrated", "b + calibrated")]


def test_who_has_no_calibration_stands_against_both_readings() -> None:
    sides = sides_of(["a", "a + calibrated", "maps", "c", "c + calibrated"])
    assert names(pairs_of(sides)) == [
        ("a", "maps"),
        ("a + calibrated", "maps"),
        ("a", "c"),
        ("a + calibrated", "c + calibrated"),
        ("maps", "c"),
        ("maps", "c + calibrated"),
    ]
    assert names(pairs_of(sides_of(["a", "b"]))) == [("a", "b")]
    assert pairs_of(sides_of(["a", "a + calibrated"])) == []


def test_arguments_are_paths_or_names_of_paths(tmp_path) -> None:
    for name in ("x", "y", "a=b"):
        (tmp_path / name).mkdir()
    found = entrants_of([f"{tmp_path}/x", f"ours={tmp_path}/y", f"{tmp_path}/a=b"])
    assert [entrant.name for entrant in found] == ["", "ours", ""]
    assert found[1].title(0) == "ours"
    (several,) = entrants_of([f"ours={tmp_path}/x,{tmp_path}/y"])
    assert [several.title(number) for number in (0, 1)] == ["ours #1", "ours #2"]
    assert several.paths == (tmp_path / "x", tmp_path / "y")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nobody"),
        (["{}/gone"], "no such file"),
        (["m={}/gone"], "no such file"),
        (["m="], "no path"),
        (["={}/x"], "no name"),
        (["m #1={}/x"], "no name"),
        (["m + calibrated={}/x"], "no name"),
        (["m={}/x", "m={}/y"], "two of the names are 'm'"),
        (["m={}/x", "{}/x"], "two of the paths"),
        (["m={}/x,{}/x"], "two of the paths"),
    ],
)
def test_arguments_without_sense_are_refused(arguments, said, tmp_path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    with pytest.raises(ConfigError, match=said) as caught:
        entrants_of([argument.format(tmp_path, tmp_path) for argument in arguments])
    assert caught.value.fix
