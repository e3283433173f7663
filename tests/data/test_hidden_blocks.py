"""Boxes of hidden cells: exact numbers, connected far beyond chance, also on thin grids."""

from math import prod
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Bool
from scipy import ndimage

from apatite.core.rng import generator
from apatite.core.types import Edges
from apatite.data.hidden_blocks import SMALLEST_ASPECT, _random_box, hide_blocks

Cells = Bool[np.ndarray, "cells"]


def draw(seed: int, cells: Edges, count: int) -> Cells:
    source = generator(seed, "blocks")
    return hide_blocks(source, source.permutation(prod(cells)), cells, count)


@given(cells=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 9)), data=st.data())
def test_exactly_so_many_cells_are_hidden(cells: Edges, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, prod(cells)))
    assert draw(data.draw(st.integers(0, 999)), cells, count).sum() == count


def shared_faces(is_hidden: Cells, cells: Edges) -> int:
    """Pairs of hidden cells with a common face."""
    grid = is_hidden.reshape(cells)
    return int(
        (grid[1:] & grid[:-1]).sum() + (grid[:, 1:] & grid[:, :-1]).sum() + (grid[..., 1:] & grid[..., :-1]).sum()
    )


@pytest.mark.parametrize("cells", [(4, 6, 9), (2, 9, 12)])
def test_hidden_cells_lie_side_by_side_far_more_often_than_by_chance(cells: Edges) -> None:
    count = prod(cells) // 3
    blocks = np.mean([shared_faces(draw(seed, cells, count), cells) for seed in range(60)])
    alone = []
    for seed in range(60):
        order = generator(seed, "alone").permutation(prod(cells))
        alone.append(shared_faces(order < count, cells))
    assert blocks > 1.6 * np.mean(alone)


def test_a_view_is_hidden_by_few_boxes() -> None:
    """72 of 216 single cells fall into many pieces, boxes into few."""
    pieces = [pieces_of(draw(seed, (4, 6, 9), 72).reshape(4, 6, 9)) for seed in range(60)]
    alone = [pieces_of((generator(seed, "alone").permutation(216) < 72).reshape(4, 6, 9)) for seed in range(60)]
    assert np.mean(pieces) < 5 < 15 < np.mean(alone)


def pieces_of(grid: Bool[np.ndarray, "depth height width"]) -> int:
    return cast(tuple[np.ndarray, int], ndimage.label(grid))[1]


@given(
    cells=st.tuples(st.integers(1, 6), st.integers(4, 9), st.integers(4, 12)),
    most=st.integers(1, 60),
    seed=st.integers(0, 9999),
)
def test_a_box_lies_in_the_grid_with_edges_of_similar_length(cells: Edges, most: int, seed: int) -> None:
    box = _random_box(generator(seed, "box"), cells, most)
    edges = [part.stop - part.start for part in box]
    assert all(part.start >= 0 and edge >= 1 for part, edge in zip(box, edges, strict=True))
    assert all(part.stop <= edge for part, edge in zip(box, cells, strict=True))
    # Rounding moves an edge by a half at most, which is the whole of what short edges may differ by; a cut edge is out.
    free = [edge for edge, limit in zip(edges, cells, strict=True) if edge < limit]
    if len(free) > 1:
        assert (min(free) + 0.5) / (max(free) - 0.5) >= SMALLEST_ASPECT


def test_boxes_reach_every_corner_of_the_grid_and_have_every_size() -> None:
    cells = (3, 5, 8)
    boxes = [_random_box(generator(seed, "corners"), cells, 30) for seed in range(800)]
    for axis, limit in enumerate(cells):
        assert {0, limit} <= {box[axis].start for box in boxes} | {box[axis].stop for box in boxes}
    volumes = np.array([prod(part.stop - part.start for part in box) for box in boxes])
    # Drawn uniformly from 1 to 30; rounding and the cut to three slices blur it.
    assert 12 < volumes.mean() < 18
    assert volumes.min() <= 2 and volumes.max() >= 28
