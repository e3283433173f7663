"""The published divisions are what their sources say: so many, no one twice, nothing held out in training."""

import pytest

from apatite.core.errors import DataError
from apatite.io.layouts import LAYOUTS
from apatite.io.layouts.published import PUBLISHED, PublishedSplit, even_places

COUNTS = {
    "synapse": {"finetune": 16, "development": 2, "test": 12},
    "btcv": {"finetune": 22, "development": 2, "test": 6},
    "acdc": {"finetune": 70, "development": 10, "test": 20},
    "msd_lung": {"finetune": 45, "development": 5, "test": 13},
    "msd_brats": {"finetune": 349, "development": 38, "test": 73, "unused": 24},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_counts_are_the_published_ones(name):
    split = PUBLISHED[name]
    splits = split.splits()
    found = list(splits.values())
    assert {word: found.count(word) for word in set(found)} == COUNTS[name]
    assert set(splits) == set(split.patients)
    assert list(split.patients) == sorted(set(split.patients))
    assert name in LAYOUTS


def test_ids_that_the_papers_name():
    assert {PUBLISHED["synapse"].splits()[f"img00{end}"] for end in ("01", "08", "22", "29", "38")} == {"test"}
    assert "test" not in {PUBLISHED["synapse"].splits()[f"img00{end}"] for end in ("05", "21", "34", "39", "40")}
    assert {PUBLISHED["btcv"].splits()[f"img00{end}"] for end in range(35, 41)} == {"test"}
    assert "img0011" not in PUBLISHED["synapse"].patients, "the numbers 11 to 20 were never given out"
    assert PUBLISHED["acdc"].splits()["patient095"] == "test"
    assert PUBLISHED["msd_lung"].splits()["lung_093"] == "test"
    assert PUBLISHED["msd_brats"].splits()["BRATS_397"] == "test"
    assert PUBLISHED["msd_brats"].splits()["BRATS_450"] == "unused"
    assert PUBLISHED["msd_brats"].splits()["BRATS_484"] == "finetune"


def test_development_is_taken_at_even_distances():
    assert even_places(18, 2) == [4, 13]
    assert even_places(5, 5) == [0, 1, 2, 3, 4]
    assert even_places(7, 0) == []
    split = PublishedSplit(
        title="ten", patients=tuple("abcdefghij"), test=frozenset("aj"), unused=frozenset("e"), num_development=2
    )
    assert [name for name, word in sorted(split.splits().items()) if word == "development"] == ["c", "h"]


def test_another_cohort_is_refused_and_named():
    split = PublishedSplit(title="three", patients=("a", "b", "c"), test=frozenset("b"), num_development=1)
    split.require(["c", "a", "b"], "there")
    with pytest.raises(DataError, match=r"there: lacks b; three has 3") as caught:
        split.require(["a", "c"], "there")
    assert caught.value.code == "SPLIT_DIFFERS"
    with pytest.raises(DataError, match=r"beside the published cases, d, e;"):
        split.require(["a", "b", "c", "e", "d"], "there")
    with pytest.raises(DataError, match=r"k00, k01, k02, k03, k04, k05, k06, k07 and 4 more"):
        split.require(["a", "b", "c", *(f"k{number:02d}" for number in range(12))], "there")
