"""Where views lie, by their keys alone, and which voxels they share: told from what was really cut."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.core.types import Edges
from apatite.data.views import Placed, ViewPlan, cut_views, place_views, turn, twins
from apatite.nn.patches import patchify

PARENT, CROP, LOCAL, CELL = (12, 18, 24), (8, 12, 16), (4, 6, 8), (4, 3, 2)
TWO = ViewPlan(count=2, local_count=3)


def place(seed: int = 0, step: int = 0, sample_ids: range = range(4), plan: ViewPlan = TWO) -> Placed:
    return place_views(seed, step, sample_ids, parent=PARENT, crop=CROP, local=LOCAL, cell=CELL, plan=plan)


def numbered(edges: Edges, batch: int = 1) -> Tensor:
    """Images no voxel of which has the value of another."""
    count = batch * edges[0] * edges[1] * edges[2]
    return torch.arange(count, dtype=torch.float64).reshape(batch, 1, *edges)


def test_edges_of_smit() -> None:
    crop, cell = (96, 96, 96), (16, 16, 16)
    assert ViewPlan(count=2).parent_of(crop, cell) == (128, 128, 128)
    assert ViewPlan(count=2).local_of(crop, cell) == (48, 48, 48)


def test_edges_are_whole_cells_and_rounded_up() -> None:
    plan = ViewPlan(count=2, local_share=0.3)
    # 24 of 18; 28 of 20, of which 26.7 are wanted; 45 of 33, of which 44 are wanted.
    assert plan.parent_of((18, 20, 33), (6, 4, 3)) == (24, 28, 45)
    # A third of 3 cells is one; 1.5 of 5 become 2; 3.3 of 11 become 3.
    assert plan.local_of((18, 20, 33), (6, 4, 3)) == (6, 8, 9)
    assert ViewPlan(count=1, local_share=0.01).local_of((18, 20, 33), (6, 4, 3)) == (6, 4, 3)


def test_a_single_view_is_its_own_parent() -> None:
    assert ViewPlan().parent_of(CROP, CELL) == CROP
    assert ViewPlan(turns=True).parent_of(CROP, CELL) == CROP
    assert ViewPlan(local_count=1).parent_of(CROP, CELL) == (12, 18, 22)
    placed = place_views(0, 0, range(2), parent=CROP, crop=CROP, local=LOCAL, cell=CELL, plan=ViewPlan())
    assert placed.starts.tolist() == [[[0, 0, 0]] * 2]
    assert placed.local_starts.shape == (0, 2, 3)
    assert placed.turns is None


@pytest.mark.parametrize("settings", [{"count": 2}, {"local_count": 1}, {"turns": True}])
def test_a_crop_is_its_own_view_only_where_nothing_is_done_to_it(settings: dict) -> None:
    assert ViewPlan().is_whole
    assert not ViewPlan(**settings).is_whole


@pytest.mark.parametrize(
    "settings",
    [
        {"count": 0},
        {"local_count": -1},
        {"local_share": 0.0},
        {"local_share": 1.5},
        {"parent_ratio": 0.9},
        {"parent_ratio": float("inf")},
        {"parent_ratio": float("nan")},
        {"snaps": True, "turns": True},
    ],
)
def test_impossible_plans_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        ViewPlan(**settings)


def test_views_that_cannot_be_turned_or_do_not_fit_are_refused() -> None:
    ViewPlan(turns=True).refuse((8, 6, 6))
    ViewPlan().refuse((8, 6, 4))
    with pytest.raises(ConfigError, match="turned"):
        ViewPlan(turns=True).refuse((8, 6, 4))
    with pytest.raises(ConfigError, match="turned"):
        turn(numbered((6, 6, 4)), torch.tensor([1]))
    with pytest.raises(ConfigError, match="does not fit"):
        place_views(0, 0, range(1), parent=(8, 12, 15), crop=CROP, local=LOCAL, cell=CELL, plan=TWO)


@given(first=st.integers(0, 6), count=st.integers(1, 4), seed=st.integers(0, 99), step=st.integers(0, 999))
def test_processes_that_share_a_batch_agree(first: int, count: int, seed: int, step: int) -> None:
    plan = ViewPlan(count=2, local_count=3, turns=True)
    whole = place(seed, step, range(10), plan)
    part = place(seed, step, range(first, first + count), plan)
    rows = slice(first, first + count)
    assert whole.turns is not None and part.turns is not None
    assert torch.equal(part.starts, whole.starts[:, rows])
    assert torch.equal(part.local_starts, whole.local_starts[:, rows])
    assert torch.equal(part.turns, whole.turns[:, rows])


def test_draws_differ_by_every_key_and_not_by_what_else_is_drawn() -> None:
    base = place(sample_ids=range(20))
    for other in (place(seed=1, sample_ids=range(20)), place(step=1, sample_ids=range(20))):
        assert not torch.equal(base.starts, other.starts)
        assert not torch.equal(base.local_starts, other.local_starts)
    starts = [tuple(map(tuple, view.tolist())) for view in (*base.starts, *base.local_starts)]
    assert len(set(starts)) == 5
    more = place(sample_ids=range(20), plan=ViewPlan(count=3, local_count=1, turns=True))
    assert torch.equal(more.starts[:2], base.starts)
    assert torch.equal(more.local_starts, base.local_starts[:1])


@pytest.mark.parametrize("snaps", [False, True])
def test_every_place_in_the_parent_is_as_likely(snaps: bool) -> None:
    # Room of 4, 6, 8 voxels is room of 1, 2, 4 cells.
    placed = place(sample_ids=range(1500), plan=ViewPlan(count=2, local_count=1, snaps=snaps))
    size = CELL if snaps else (1, 1, 1)
    rooms = [parent - crop for parent, crop in zip(PARENT, CROP, strict=True)]
    for axis, (room, step) in enumerate(zip(rooms, size, strict=True)):
        values, counts = placed.starts[..., axis].unique(return_counts=True)
        assert values.tolist() == list(range(0, room + 1, step))
        expected = 3000 / len(values)
        assert (counts - expected).abs().max().item() < 5 * expected**0.5
    local_rooms = [parent - local for parent, local in zip(PARENT, LOCAL, strict=True)]
    assert placed.local_starts.amin(dim=(0, 1)).tolist() == [0, 0, 0]
    assert placed.local_starts.amax(dim=(0, 1)).tolist() == local_rooms


def test_smit_views_share_at_least_296_permille_and_694_on_average() -> None:
    crop, cell = (96, 96, 96), (16, 16, 16)
    placed = place_views(
        0, 0, range(1000), parent=(128, 128, 128), crop=crop, local=crop, cell=cell, plan=ViewPlan(count=2)
    )
    shared = (96 - (placed.starts[0] - placed.starts[1]).abs()).double().prod(dim=1) / 96**3
    assert shared.min().item() >= (64 / 96) ** 3
    # Two of 33 places are (33^2 - 1) / (3 * 33) = 10.99 apart on average, along each axis.
    assert shared.mean().item() == pytest.approx((1 - 1088 / 99 / 96) ** 3, abs=0.015)


def test_views_are_cut_where_they_were_placed_view_by_view() -> None:
    images = torch.cat([numbered(PARENT, batch=3), -numbered(PARENT, batch=3)], dim=1)
    placed = place(sample_ids=range(3))
    views = cut_views(images, placed.starts, CROP)
    assert views.shape == (6, 2, *CROP)
    for view in range(2):
        for sample in range(3):
            z, y, x = placed.starts[view, sample].tolist()
            wanted = images[sample, :, z : z + 8, y : y + 12, x : x + 16]
            assert torch.equal(views[view * 3 + sample], wanted)
    assert cut_views(images, placed.local_starts, LOCAL).shape == (9, 2, *LOCAL)
    assert cut_views(images, placed.local_starts[:0], LOCAL).shape == (0, 2, *LOCAL)


@pytest.mark.parametrize("start", [(-1, 0, 0), (0, 7, 0), (0, 0, 9)])
def test_a_view_beyond_its_parent_is_no_view(start: Edges) -> None:
    with pytest.raises(AssertionError, match="beyond"):
        cut_views(numbered(PARENT), torch.tensor([[start]]), CROP)


def test_quarter_turns_by_hand() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(4, 1, 3, 2, 2)
    turned = turn(image, torch.tensor([0, 1, 2, 3]))
    wanted = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    assert turned[:, 0, 1].tolist() == wanted
    assert torch.equal(turned[:, :, 0], turned[:, :, 2])


def test_turns_are_drawn_evenly_for_each_view() -> None:
    turns = place(sample_ids=range(800), plan=ViewPlan(count=2, turns=True)).turns
    assert turns is not None and turns.shape == (2, 800)
    counts = torch.stack([torch.bincount(view, minlength=4) for view in turns])
    assert counts.shape == (2, 4) and (counts - 200).abs().max().item() < 65
    assert not torch.equal(turns[0], turns[1])


STARTS = st.tuples(*(st.integers(0, parent - crop) for parent, crop in zip((13, 22, 25), CROP, strict=True)))


@given(u=STARTS, v=STARTS)
def test_twins_show_the_same_voxels_and_no_other_cells_do(u: Edges, v: Edges) -> None:
    check_twins(u, v)


@given(v=STARTS, data=st.data())
def test_views_whole_cells_apart_have_a_twin_for_each_shared_cell(v: Edges, data: st.DataObject) -> None:
    shifts = [data.draw(st.integers(-2, 2)) * size for size in CELL]
    u = (v[0] + shifts[0], v[1] + shifts[1], v[2] + shifts[2])
    if all(0 <= start <= parent - crop for start, parent, crop in zip(u, (13, 22, 25), CROP, strict=True)):
        shared = np.prod([(crop - abs(shift)) // size for crop, shift, size in zip(CROP, shifts, CELL, strict=True)])
        assert check_twins(u, v) == shared


def check_twins(u: Edges, v: Edges) -> int:
    """Compare every cell of one view with every cell of the other; how many are the same."""
    starts = torch.tensor([[u], [v]])
    views = cut_views(numbered((13, 22, 25)), starts, CROP)
    ours, theirs = patchify(views, CELL)
    is_same = (ours[:, None] == theirs[None]).all(dim=2)
    place_of, has_twin = twins(starts, (2, 4, 8), CELL)
    for row, same in ((0, is_same), (1, is_same.mT)):
        assert torch.equal(has_twin[row], same.any(dim=1))
        assert torch.equal(place_of[row], same.int().argmax(dim=1))
    return int(is_same.sum())


def test_twins_are_told_apart_sample_by_sample_and_are_mutual() -> None:
    starts = torch.tensor([[[0, 0, 0], [4, 3, 8], [1, 0, 0]], [[4, 6, 2], [0, 3, 0], [0, 0, 0]]])
    place_of, has_twin = twins(starts, (2, 4, 8), CELL)
    assert place_of.shape == has_twin.shape == (6, 64)
    # One cell, two cells, one cell apart: 1 of 2, 2 of 4, 7 of 8 are shared; then 1 of 2, 4 of 4, 4 of 8; then none.
    assert has_twin.sum(dim=1).tolist() == [14, 16, 0, 14, 16, 0]
    for row in range(6):
        other = (row + 3) % 6
        for cell in torch.nonzero(has_twin[row])[:, 0].tolist():
            there = place_of[row, cell]
            assert has_twin[other, there] and place_of[other, there].item() == cell


def test_views_that_share_nothing_have_no_twins() -> None:
    assert not twins(torch.tensor([[[0, 0, 0]], [[0, 0, 16]]]), (2, 4, 8), CELL)[1].any()
