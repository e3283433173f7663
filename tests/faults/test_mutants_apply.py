"""The planted bugs still fit the source, so that a refactoring which orphans one is noticed at once."""

import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
MUTANTS = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))["mutant"]
REQUIRED = {"name", "file", "find", "replace", "why", "tests"}


def source_of(mutant: dict) -> str:
    return (REPO / "src" / "apatite" / mutant["file"]).read_text(encoding="utf-8")


def test_there_are_enough_of_them_and_each_has_its_own_name():
    names = [mutant["name"] for mutant in MUTANTS]
    assert len(names) >= 28
    assert len(set(names)) == len(names)


def test_each_says_all_that_is_needed_and_nothing_else():
    for mutant in MUTANTS:
        assert REQUIRED <= set(mutant) <= REQUIRED | {"count", "hangs"}, mutant["name"]
        assert mutant["why"].endswith("."), mutant["name"]


def test_each_finds_its_place():
    found = {mutant["name"]: source_of(mutant).count(mutant["find"]) for mutant in MUTANTS}
    assert found == {mutant["name"]: mutant.get("count", 1) for mutant in MUTANTS}


def test_each_changes_the_source_into_something_that_compiles():
    """A bug that cannot even be imported proves nothing about the tests."""
    for mutant in MUTANTS:
        source = source_of(mutant)
        changed = source.replace(mutant["find"], mutant["replace"])
        assert changed != source, mutant["name"]
        compile(changed, mutant["name"], "exec")


def test_the_tests_that_are_to_catch_them_exist():
    missing = {path for mutant in MUTANTS for path in mutant["tests"] if not (REPO / path).is_file()}
    assert not missing
