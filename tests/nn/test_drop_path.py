import pytest
import torch

from apatite.core.share import Share
from apatite.nn.drop_path import DropPath, draw_for_views, rising_rates, share_draws
from apatite.nn.swin.config import SwinConfig


def test_the_mean_is_kept_and_evaluation_rests():
    torch.manual_seed(0)
    drop = DropPath(0.4)
    branch = torch.ones(20_000, 1, 1)
    kept = drop(branch)
    assert abs(kept.mean().item() - 1) < 0.03
    assert len(kept.unique()) == 2
    assert kept.max().item() == pytest.approx(1 / 0.6)
    assert torch.equal(drop.eval()(branch), branch)


def test_a_sample_is_dropped_whole_whatever_its_shape():
    torch.manual_seed(0)
    dropped = DropPath(0.5)(torch.ones(40, 2, 3, 1, 5))
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample, per_sample[:, :1].expand_as(per_sample))
    torch.manual_seed(0)
    assert torch.equal(DropPath(0.5)(torch.ones(40, 7, 2))[:, 0, 0], per_sample[:, 0])


def test_draws_are_those_it_always_had():
    """One uniform number per sample, kept from the rate on: what blocks drew before this file was."""
    branch = torch.randn(6, 4, 3)
    torch.manual_seed(3)
    by_hand = branch * (torch.rand(6, 1, 1) >= 0.3) / (1 - 0.3)
    torch.manual_seed(3)
    assert torch.equal(DropPath(0.3)(branch), by_hand)


def test_a_rate_of_zero_draws_nothing():
    torch.manual_seed(0)
    DropPath(0.0)(torch.ones(3, 2))
    first = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), first)


@pytest.mark.parametrize("views", [1, 2])
def test_processes_together_drop_what_one_alone_would(views):
    """Two views of six samples by three processes: each has two samples of both views."""
    branch = torch.arange(1.0, 6 * views + 1)[:, None]
    whole = DropPath(0.5)
    draw_for_views(whole, views)
    torch.manual_seed(1)
    alone = whole(branch).view(views, 6)
    for index in range(3):
        part = DropPath(0.5)
        share_draws(part, Share(index=index, of=3))
        draw_for_views(part, views)
        torch.manual_seed(1)
        seen = part(branch.view(views, 3, 2)[:, index].reshape(-1, 1))
        assert torch.equal(seen.view(views, 2), alone[:, 2 * index : 2 * index + 2])


def test_every_block_of_a_model_is_told():
    swin = SwinConfig(crop=(16, 16, 32), windows_hu=((0.0, 1.0),), dim=4, depths=(1, 1, 2, 1), drop_path=0.1).build()
    share_draws(swin, Share(index=1, of=2))
    draw_for_views(swin, 2)
    drops = [part for part in swin.modules() if isinstance(part, DropPath)]
    assert len(drops) == 5
    assert {(drop.share.index, drop.share.of, drop.views) for drop in drops} == {(1, 2, 2)}


def test_rates_rise_by_equal_steps():
    assert rising_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert rising_rates(0.3, 1) == [0.0]
