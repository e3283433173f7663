"""The silent watch hands on what it is given, lazily."""

from itertools import count, islice

from apatite.core.watch import unwatched


def test_items_pass_unchanged_and_lazily() -> None:
    assert list(islice(unwatched(count(5), "counting"), 3)) == [5, 6, 7]
