"""Which cells are hidden: exact numbers, by the keys alone, and never a grid without both kinds."""

from collections.abc import Sequence
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Int64

from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.types import Edges, TokenChoice
from apatite.data.hiding import Hidden, HidingLaw, num_visible

SMIT = HidingLaw(ratio=0.7)
IBOT = HidingLaw(kind="blocks", ratio=0.5, lowest=0.1, share=0.5)
GRIDS = st.tuples(st.integers(1, 4), st.integers(2, 7), st.integers(3, 9))


def test_visible_and_hidden_are_a_partition_in_ascending_order() -> None:
    drawn = HidingLaw(ratio=0.9).hide(0, 3, range(4), (2, 5, 10))
    visible, hidden = drawn.visible, drawn.hidden
    assert visible.shape == (4, 10)
    assert hidden.shape == (4, 90)
    for seen, unseen in zip(visible, hidden, strict=True):
        assert sorted(seen.tolist() + unseen.tolist()) == list(range(100))
        assert seen.tolist() == sorted(seen.tolist())
        assert unseen.tolist() == sorted(unseen.tolist())


def test_a_draw_depends_on_seed_step_and_sample_only() -> None:
    law, cells = HidingLaw(ratio=0.9), (4, 5, 10)
    first, alone = (law.hide(7, 5, range(count), cells).visible for count in (4, 1))
    assert torch.equal(first[:1], alone)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(alone, law.hide(7, 6, range(1), cells).visible)
    assert not torch.equal(alone, law.hide(8, 5, range(1), cells).visible)


def test_every_patch_is_hidden_equally_often() -> None:
    counts = torch.zeros(40)
    for step in range(200):
        visible = HidingLaw(ratio=0.75).hide(0, step, range(10), (2, 4, 5)).visible
        counts += torch.bincount(visible.flatten(), minlength=40)
    # 2000 samples x 10 of 40: mean 500, standard deviation about 19.
    assert counts.min() > 410
    assert counts.max() < 590


@pytest.mark.parametrize(
    ("num_tokens", "ratio", "visible"),
    [(576, 0.9, 57), (4608, 0.9, 460), (1000, 0.9, 100), (100, 0.75, 25), (216, 0.7, 64), (216, 0.6, 86)],
)
def test_number_of_visible_tokens(num_tokens: int, ratio: float, visible: int) -> None:
    assert num_visible(num_tokens, ratio) == visible


@pytest.mark.parametrize(("num_tokens", "ratio"), [(100, 0.0), (100, 1.0), (5, 0.9), (100, 1.5)])
def test_impossible_ratios_are_refused(num_tokens: int, ratio: float) -> None:
    with pytest.raises(ConfigError):
        num_visible(num_tokens, ratio)


def test_smit_hides_exactly_152_of_216_cells_of_each_view() -> None:
    hidden = SMIT.hide(0, 1, range(3), (6, 6, 6), views=2)
    assert hidden.is_hidden.shape == (6, 216)
    assert hidden.is_hidden.sum(dim=1).tolist() == [152] * 6
    assert len({tuple(row.tolist()) for row in hidden.is_hidden}) == 6
    # Enlarged to voxels, its mean is the share of the cells: 152/216.
    voxels = hidden.is_hidden.reshape(6, 6, 6, 6)
    for axis in (1, 2, 3):
        voxels = voxels.repeat_interleave(16, dim=axis)
    assert voxels.double().mean().item() == pytest.approx(0.7037, abs=1e-4)


def drawn_before(num_cells: int, visible: int, keys: Sequence[tuple[int, ...]]) -> tuple[TokenChoice, TokenChoice]:
    """What runs of one view have always drawn: the first of a permutation are visible."""
    orders: Int64[np.ndarray, "batch cells"] = np.stack(
        [generator(key[0], "hiding", *key[1:]).permutation(num_cells) for key in keys]
    )
    ascending = np.sort(orders[:, :visible], axis=1), np.sort(orders[:, visible:], axis=1)
    return torch.from_numpy(ascending[0]), torch.from_numpy(ascending[1])


def test_the_first_view_draws_what_runs_of_one_view_have_always_drawn() -> None:
    hidden = SMIT.hide(3, 9, range(2, 5), (2, 5, 7), views=2)
    visible = num_visible(70, 0.7)
    keys = [(3, 9, sample) for sample in (2, 3, 4)] + [(3, 9, sample, 1) for sample in (2, 3, 4)]
    wanted_visible, wanted_hidden = drawn_before(70, visible, keys)
    assert torch.equal(hidden.visible, wanted_visible)
    assert torch.equal(hidden.hidden, wanted_hidden)


@given(cells=GRIDS, seed=st.integers(0, 99), law=st.sampled_from([SMIT, IBOT, HidingLaw(kind="blocks", ratio=0.6)]))
def test_processes_that_share_a_batch_agree(cells: Edges, seed: int, law: HidingLaw) -> None:
    whole = law.hide(seed, 4, range(5), cells, views=2).is_hidden.reshape(2, 5, -1)
    part = law.hide(seed, 4, range(2, 5), cells, views=2).is_hidden.reshape(2, 3, -1)
    assert torch.equal(whole[:, 2:], part)


@given(cells=GRIDS, seed=st.integers(0, 99), ratio=st.floats(0.05, 0.8))
def test_both_laws_hide_the_same_exact_number(cells: Edges, seed: int, ratio: float) -> None:
    visible = num_visible(prod(cells), ratio)
    for law in (HidingLaw(ratio=ratio), HidingLaw(kind="blocks", ratio=ratio)):
        hidden = law.hide(seed, 0, range(2), cells)
        assert hidden.has_equal_counts
        assert hidden.visible.shape == (2, visible)
        assert hidden.hidden.shape == (2, prod(cells) - visible)


def test_ratios_are_drawn_from_their_range_for_a_share_of_the_views() -> None:
    hidden = IBOT.hide(0, 0, range(400), (4, 5, 10), views=2)
    assert not hidden.has_equal_counts
    counts = hidden.is_hidden.sum(dim=1)
    is_chosen = counts > 0
    # 800 views, half of them: standard deviation 14.
    assert is_chosen.sum().item() == pytest.approx(400, abs=60)
    ratios = counts[is_chosen] / 200
    assert ratios.min().item() >= 0.1 and ratios.max().item() <= 0.505
    assert ratios.mean().item() == pytest.approx(0.3, abs=0.03)
    # Views of one sample are drawn apart.
    assert (is_chosen[:400] != is_chosen[400:]).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_nothing_is_hidden_without_a_ratio() -> None:
    law = HidingLaw(ratio=None)
    law.refuse((1, 1, 1))
    hidden = law.hide(0, 0, range(3), (2, 3, 4))
    assert hidden.has_equal_counts
    assert not hidden.is_hidden.any()
    assert torch.equal(hidden.visible, torch.arange(24).expand(3, 24))
    assert hidden.hidden.shape == (3, 0)


def test_places_are_refused_where_views_hide_different_numbers() -> None:
    hidden = Hidden(is_hidden=torch.tensor([[True, False, False], [True, True, False]]))
    assert not hidden.has_equal_counts
    with pytest.raises(AssertionError, match="different numbers"):
        _ = hidden.visible


def test_on_a_device_places_are_what_they_were() -> None:
    here = SMIT.hide(0, 0, range(2), (2, 3, 5))
    there = here.to("cpu")
    assert torch.equal(there.is_hidden, here.is_hidden)
    assert torch.equal(there.visible, here.visible)
    assert torch.equal(there.hidden, here.hidden)
    # Known before anything is asked of the device, which would have to be waited for: it has no values at all.
    assert here.to("meta").hidden.shape == here.hidden.shape
    assert not IBOT.hide(0, 0, range(9), (4, 5, 6)).to("meta").has_equal_counts


@pytest.mark.parametrize(
    "settings",
    [
        {"ratio": 0.0},
        {"ratio": 1.0},
        {"ratio": float("nan")},
        {"ratio": 0.5, "lowest": 0.5},
        {"ratio": 0.5, "lowest": 0.0},
        {"share": 0.0},
        {"share": 1.1},
        {"ratio": None, "lowest": 0.1},
        {"ratio": None, "share": 0.5},
    ],
)
def test_impossible_laws_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        HidingLaw(**settings)


def test_a_grid_is_refused_where_nothing_would_stay_visible() -> None:
    HidingLaw(ratio=0.7).refuse((1, 2, 2))
    with pytest.raises(ConfigError, match="leave 0 visible"):
        HidingLaw(ratio=0.7).refuse((1, 1, 3))
    with pytest.raises(ConfigError, match="leave 0 visible"):
        HidingLaw(kind="blocks", ratio=0.9, lowest=0.1).refuse((1, 3, 3))
