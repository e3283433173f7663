"""Betti numbers of shapes by hand, and against GUDHI's persistence of the 0/1 volume."""

import math

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from apatite.metrics.betti import BettiNumbers, betti_error, betti_numbers, euler_characteristic

SHAPE = (13, 15, 18)


def points() -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij"), axis=-1)


def ball(centre: tuple[float, ...], radius: float) -> np.ndarray:
    return ((points() - np.array(centre)) ** 2).sum(axis=-1) <= radius**2


def ring(centre: tuple[float, ...], radius: float, thickness: float, axis: int) -> np.ndarray:
    offset = points() - np.array(centre)
    along = offset[..., axis]
    across = np.linalg.norm(np.delete(offset, axis, axis=-1), axis=-1)
    return (across - radius) ** 2 + along**2 <= thickness**2


def frame(slices: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int], width: int) -> np.ndarray:
    """The border of a rectangle, in some slices."""
    is_marked = np.zeros(SHAPE, bool)
    is_marked[slice(*slices), slice(*rows), slice(*columns)] = True
    is_marked[slice(*slices), rows[0] + width : rows[1] - width, columns[0] + width : columns[1] - width] = False
    return is_marked


def numbers(is_marked: np.ndarray) -> tuple[int, int, int]:
    found = betti_numbers(is_marked)
    return found.components, found.tunnels, found.cavities


def by_gudhi(is_marked: np.ndarray) -> tuple[int, int, int]:
    """Sub-level set at 0 of a volume that is 0 on the set and 1 beside it, voxels as vertices."""
    volume = np.where(is_marked, 0.0, 1.0)
    # GUDHI reads a flat list in Fortran order; an array it reads as it is.
    cubes = gudhi.CubicalComplex(vertices=volume)  # pyright: ignore[reportAttributeAccessIssue]
    alive = [dimension for dimension, (birth, death) in cubes.persistence() if birth <= 0 < death]
    return alive.count(0), alive.count(1), alive.count(2)


middle = (6.0, 7.0, 8.0)
SHAPES = {
    "nothing": (np.zeros(SHAPE, bool), (0, 0, 0)),
    "all": (np.ones(SHAPE, bool), (1, 0, 0)),
    "ball": (ball(middle, 5), (1, 0, 0)),
    "shell": (ball(middle, 5) & ~ball(middle, 3), (1, 0, 1)),
    "shell with a hole": (ball(middle, 5) & ~ball(middle, 3) & ~ball((1.0, 7, 8), 2), (1, 0, 0)),
    "shell with two holes": (
        ball(middle, 5) & ~ball(middle, 3) & ~ball((1.0, 7, 8), 2) & ~ball((11.0, 7, 8), 2),
        (1, 1, 0),
    ),
    "ring": (ring(middle, 4, 1.5, 0), (1, 1, 0)),
    "hollow ring": (frame((2, 5), (1, 10), (1, 12), 3) & ~frame((3, 4), (2, 9), (2, 11), 1), (1, 2, 1)),
    "two rings that touch": (ring((6, 4, 8), 3, 1.2, 0) | ring((6, 10, 8), 3, 1.2, 0), (1, 2, 0)),
    "two linked rings": (ring((6, 7, 6), 3.6, 1, 0) | ring((6, 7, 10), 3.6, 1, 1), (2, 2, 0)),
    "two balls": (ball((6, 3, 4), 2.5) | ball((6, 10, 12), 3), (2, 0, 0)),
    "ball in a shell": (ball(middle, 6) & ~ball(middle, 4) | ball(middle, 2), (2, 0, 1)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_by_hand(name: str) -> None:
    is_marked, expected = SHAPES[name]
    assert numbers(is_marked) == expected
    components, tunnels, cavities = expected
    assert euler_characteristic(is_marked) == components - tunnels + cavities


def test_voxels_touch_by_faces_and_the_rest_by_corners() -> None:
    by_an_edge = np.zeros((2, 3, 4), bool)
    by_an_edge[0, 0, 0] = by_an_edge[1, 1, 0] = True
    assert numbers(by_an_edge) == (2, 0, 0)
    # Six voxels around one: the rest gets in by the corners.
    cross = np.zeros((3, 3, 3), bool)
    cross[[0, 2, 1, 1, 1, 1], [1, 1, 0, 2, 1, 1], [1, 1, 1, 1, 0, 2]] = True
    assert numbers(cross) == (6, 0, 0)
    block = np.ones((3, 3, 3), bool)
    block[1, 1, 1] = False
    assert numbers(block) == (1, 0, 1)
    for corner in np.ndindex(2, 2, 2):
        open_block = block.copy()
        open_block[tuple(2 * place for place in corner)] = False
        assert numbers(open_block) == (1, 0, 0)


def test_the_border_of_the_volume_shuts_nothing_in() -> None:
    tube = np.ones((5, 3, 4), bool)
    tube[:, 1, 1:3] = False
    assert numbers(tube) == (1, 1, 0)
    tube[0] = True
    assert numbers(tube) == (1, 0, 0)
    tube[4] = True
    assert numbers(tube) == (1, 0, 1)


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))))
def test_equals_gudhi_on_any_small_volume(is_marked: np.ndarray) -> None:
    assert numbers(is_marked) == by_gudhi(is_marked)


@pytest.mark.parametrize("density", [0.3, 0.6, 0.85, 0.95])
def test_equals_gudhi_on_noise_of_every_density(density: float) -> None:
    is_marked = np.random.default_rng(int(100 * density)).random((9, 12, 14)) < density
    assert numbers(is_marked) == by_gudhi(is_marked)
    turned = np.flip(np.transpose(is_marked, (2, 0, 1)), axis=1)
    assert numbers(np.ascontiguousarray(turned)) == numbers(is_marked)


def test_the_error_adds_up_what_is_too_many_and_what_is_missing() -> None:
    shell, _ = SHAPES["shell"]
    ring_and_ball = ring((6, 7, 5), 3, 1.2, 0) | ball((6, 7, 15), 2)
    assert betti_numbers(ring_and_ball) == BettiNumbers(components=2, tunnels=1, cavities=0)
    assert betti_error(ring_and_ball, shell) == betti_error(shell, ring_and_ball) == 1 + 1 + 1
    nothing = np.zeros(SHAPE, bool)
    assert betti_error(nothing, ring_and_ball) == 3
    assert betti_error(nothing, nothing) == 0
    # The same shape elsewhere: the count knows nothing of places.
    assert betti_error(ball((4, 4, 4), 2.5), ball((8, 10, 13), 2.5)) == 0


def test_euler_characteristic_of_a_block_without_any_loop() -> None:
    shape = (3, 4, 6)
    vertices = math.prod(shape)
    edges = 2 * 4 * 6 + 3 * 3 * 6 + 3 * 4 * 5
    squares = 2 * 3 * 6 + 2 * 4 * 5 + 3 * 3 * 5
    cubes = 2 * 3 * 5
    assert euler_characteristic(np.ones(shape, bool)) == vertices - edges + squares - cubes == 1
