import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.hiding import hide_randomly, num_visible


def test_visible_and_hidden_are_a_partition_in_ascending_order():
    visible, hidden = hide_randomly(0, 3, range(4), 100, 0.9)
    assert visible.shape == (4, 10)
    assert hidden.shape == (4, 90)
    for seen, unseen in zip(visible, hidden, strict=True):
        assert sorted(seen.tolist() + unseen.tolist()) == list(range(100))
        assert seen.tolist() == sorted(seen.tolist())
        assert unseen.tolist() == sorted(unseen.tolist())


def test_a_draw_depends_on_seed_step_and_sample_only():
    first, _ = hide_randomly(7, 5, range(4), 200, 0.9)
    alone, _ = hide_randomly(7, 5, range(1), 200, 0.9)
    assert torch.equal(first[:1], alone)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], hide_randomly(7, 6, range(1), 200, 0.9)[0][0])
    assert not torch.equal(first[0], hide_randomly(8, 5, range(1), 200, 0.9)[0][0])


def test_every_patch_is_hidden_equally_often():
    counts = torch.zeros(40)
    for step in range(200):
        visible, _ = hide_randomly(0, step, range(10), 40, 0.75)
        counts += torch.bincount(visible.flatten(), minlength=40)
    # 2000 samples x 10 of 40: mean 500, standard deviation about 19.
    assert counts.min() > 410
    assert counts.max() < 590


@pytest.mark.parametrize(
    ("num_tokens", "ratio", "visible"), [(576, 0.9, 57), (4608, 0.9, 460), (1000, 0.9, 100), (100, 0.75, 25)]
)
def test_number_of_visible_tokens(num_tokens, ratio, visible):
    assert num_visible(num_tokens, ratio) == visible


@pytest.mark.parametrize(("num_tokens", "ratio"), [(100, 0.0), (100, 1.0), (5, 0.9), (100, 1.5)])
def test_impossible_ratios_are_refused(num_tokens, ratio):
    with pytest.raises(ConfigError):
        num_visible(num_tokens, ratio)
