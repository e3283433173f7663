"""However batches reach the loop, they are the same batches."""

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.ahead import Ahead
from apatite.data.batches import Batch
from apatite.data.feed import FeedConfig, fed, held_on


def draw(step: int) -> Batch:
    return Batch(case_ids=("a",), images_hu=torch.full((1, 1, 2, 3, 4), float(step)))


def test_without_workers_nothing_stands_between():
    assert fed(draw, FeedConfig(), 5) is draw


def test_with_workers_they_are_asked_up_to_the_last_step():
    made = fed(draw, FeedConfig(workers=2), 5)
    assert isinstance(made, Ahead)
    assert (made.workers, made.last, made.batches) == (2, 5, draw)


@pytest.mark.parametrize(("is_on_device", "where"), [(False, "cpu"), (True, "cuda")])
def test_where_the_data_are_held(is_on_device, where):
    assert held_on(FeedConfig(on_device=is_on_device), "cuda") == where


@pytest.mark.parametrize("values", [{"workers": -1}, {"workers": 1, "on_device": True}])
def test_what_cannot_be_done_is_refused(values):
    with pytest.raises(ConfigError, match=r"feed\.workers"):
        FeedConfig(**values)
