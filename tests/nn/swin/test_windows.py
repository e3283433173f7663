import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apatite.nn.swin.windows import are_apart, plan_windows, relative_places, sides_of

CPU = torch.device("cpu")
EDGES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
WINDOWS = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@given(grid=EDGES, window=WINDOWS, shifted=st.booleans())
def test_what_is_cut_is_joined_again(grid, window, shifted):
    plan = plan_windows(grid, window, shifted=shifted)
    tokens = torch.arange(2.0 * grid[0] * grid[1] * grid[2] * 3).view(2, *grid, 3)
    windows = plan.cut(tokens)
    inside = plan.window[0] * plan.window[1] * plan.window[2]
    assert windows.shape[1:] == (inside, 3)
    assert torch.equal(plan.join(windows), tokens)


def test_a_window_holds_a_box_of_the_grid_in_its_order():
    tokens = torch.arange(4.0 * 6 * 2).view(1, 4, 6, 2, 1)
    windows = plan_windows((4, 6, 2), (2, 3, 2), shifted=False).cut(tokens)
    assert len(windows) == 4
    assert torch.equal(windows[3, :, 0], tokens[0, 2:4, 3:6, 0:2, 0].flatten())


def test_a_shifted_window_begins_half_a_window_further():
    tokens = torch.arange(4.0 * 6 * 9).view(1, 4, 6, 9, 1)
    windows = plan_windows((4, 6, 9), (2, 3, 4), shifted=True).cut(tokens)
    assert torch.equal(windows[0, :, 0], tokens[0, 1:3, 1:4, 2:6, 0].flatten())


def test_a_grid_that_one_window_covers_is_not_shifted_there():
    plan = plan_windows((3, 8, 4), (4, 4, 4), shifted=True)
    assert (plan.window, plan.shift, plan.padded) == ((3, 4, 4), (0, 2, 0), (3, 8, 4))
    assert sides_of(plan_windows((3, 4, 2), (4, 4, 4), shifted=True), CPU) is None
    assert sides_of(plan_windows((8, 8, 8), (4, 4, 4), shifted=False), CPU) is None


@pytest.mark.parametrize(("grid", "window"), [((4, 6, 8), (2, 3, 4)), ((5, 4, 3), (4, 2, 4)), ((9, 2, 7), (4, 4, 3))])
def test_tokens_are_apart_where_rolling_brought_them_together(grid, window):
    """The oracle: two tokens belong together where, without rolling, they lie less than a window from each other."""
    plan = plan_windows(grid, window, shifted=True)
    places = torch.stack(torch.meshgrid(*map(torch.arange, plan.padded), indexing="ij"), -1)[None].float()
    # As if the grid were whole windows: the padding is rolled with the rest.
    whole = plan_windows(plan.padded, window, shifted=True)
    cut = whole.cut(places)
    sides = sides_of(plan, CPU)
    assert sides is not None
    distance = (cut[:, :, None] - cut[:, None, :]).abs()
    assert torch.equal(are_apart(sides), (distance >= torch.tensor(plan.window)).any(-1))


def test_tables_made_while_nothing_is_learned_serve_learning_too():
    plan = plan_windows((10, 6, 11), (5, 3, 4), shifted=True)
    with torch.inference_mode():
        sides_of(plan, CPU)
        relative_places((5, 3, 4), (5, 2, 4), CPU, counts_from_first=False)
    sides = sides_of(plan, CPU)
    assert sides is not None
    assert not sides.is_inference()
    assert not relative_places((5, 3, 4), (5, 2, 4), CPU, counts_from_first=False).is_inference()


@pytest.mark.parametrize("window", [(2, 3, 4), (2, 2, 3), (1, 3, 2)])
def test_a_relative_place_tells_the_offset(window):
    """Equal offsets have equal places, others have others, in small windows the same as in whole ones."""
    whole = (2, 3, 4)
    places = relative_places(whole, window, CPU, counts_from_first=False)
    corners = list(itertools.product(*map(range, window)))
    for (row, one), (column, other) in itertools.product(enumerate(corners), repeat=2):
        z, y, x = (a - b for a, b in zip(one, other, strict=True))
        assert places[row, column].item() == ((z + 1) * 5 + (y + 2)) * 7 + (x + 3)


def test_the_places_that_monai_takes_are_those_of_the_first_tokens():
    whole = relative_places((4, 3, 2), (4, 3, 2), CPU, counts_from_first=True)
    assert torch.equal(relative_places((4, 3, 2), (2, 3, 2), CPU, counts_from_first=True), whole[:12, :12])
    small = relative_places((4, 3, 2), (4, 2, 2), CPU, counts_from_first=True)
    assert not torch.equal(small, relative_places((4, 3, 2), (4, 2, 2), CPU, counts_from_first=False))
