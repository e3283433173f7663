"""Diagrams of shapes drawn by hand, and of random volumes against components and cells that are simply counted."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from apatite.core import config as configuration
from apatite.core.errors import ConfigError, DataError
from apatite.topology.diagrams import Diagram, DiagramConfig, Diagrams, diagrams

SHAPE = (6, 7, 9)
BACKGROUND = 0.9
KEEP_ESSENTIAL = DiagramConfig(essential="pair")


def points(diagram: Diagram) -> list[tuple[float, float]]:
    return list(zip(diagram.births.tolist(), diagram.deaths.tolist(), strict=True))


def voxels(diagram: Diagram, shape=SHAPE) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Where each point is born and dies, as (depth, height, width)."""
    births, deaths = (
        np.stack(np.unravel_index(flat, shape), axis=1) for flat in (diagram.birth_voxels, diagram.death_voxels)
    )
    return [(tuple(birth), tuple(death)) for birth, death in zip(births.tolist(), deaths.tolist(), strict=True)]


def two_blobs() -> np.ndarray:
    """Two dark blobs, the darker one born first; a bridge whose brightest voxel joins them."""
    volume = np.full(SHAPE, BACKGROUND)
    volume[1:3, 1:4, 1:3] = 0.2
    volume[2, 2, 1] = 0.1
    volume[1:3, 1:4, 6:8] = 0.4
    volume[2, 3, 7] = 0.3
    volume[2, 2, 3:6] = 0.5, 0.7, 0.6
    return volume


def ring() -> np.ndarray:
    """A dark ring in one slice, closed by its brightest voxel; a membrane in it, closed by its brightest one."""
    volume = np.full(SHAPE, BACKGROUND)
    volume[2, 1:6, 2:8] = 0.2
    volume[2, 5, 4] = 0.3
    volume[2, 2:5, 3:7] = 0.6
    volume[2, 3, 5] = 0.7
    return volume


def hollow_box() -> np.ndarray:
    """A dark shell of 3 × 4 × 5 voxels, closed by one; inside it two bright rooms with a darker door."""
    volume = np.full(SHAPE, BACKGROUND)
    volume[1:4, 2:6, 3:8] = 0.2
    volume[3, 5, 7] = 0.35
    volume[2, 3:5, 4] = 0.8
    volume[2, 3:5, 5] = 0.5
    volume[2, 3:5, 6] = 0.7
    volume[2, 3, 4], volume[2, 4, 6], volume[2, 4, 5] = 0.85, 0.75, 0.55
    return volume


def test_two_blobs_are_two_components() -> None:
    components, tunnels, cavities = diagrams(two_blobs(), KEEP_ESSENTIAL)
    assert points(components) == [(0.3, 0.7)]
    assert voxels(components) == [((2, 3, 7), (2, 2, 4))]
    assert np.unravel_index(components.essential_voxel, SHAPE) == (2, 2, 1)
    assert points(tunnels) == points(cavities) == []
    assert (components.dimension, tunnels.dimension, cavities.dimension) == (0, 1, 2)


def test_a_ring_is_one_tunnel() -> None:
    components, tunnels, cavities = diagrams(ring(), KEEP_ESSENTIAL)
    assert points(tunnels) == [(0.3, 0.7)]
    assert voxels(tunnels) == [((2, 5, 4), (2, 3, 5))]
    assert points(components) == points(cavities) == []


def test_a_hollow_box_is_one_cavity_that_parts_in_two() -> None:
    components, tunnels, cavities = diagrams(hollow_box(), KEEP_ESSENTIAL)
    # Born with the shell's last voxel, filled with the larger room's brightest; the door parts the smaller room off.
    assert points(cavities) == [(0.35, 0.85), (0.55, 0.75)]
    assert voxels(cavities) == [((3, 5, 7), (2, 3, 4)), ((2, 4, 5), (2, 4, 6))]
    assert points(components) == points(tunnels) == []


@pytest.mark.parametrize("draw", [two_blobs, ring, hollow_box])
def test_bright_objects_are_dark_ones_of_the_negative(draw) -> None:
    dark = diagrams(draw(), KEEP_ESSENTIAL)
    bright = diagrams(1.0 - draw(), DiagramConfig(essential="pair", level="super"))
    for of_dark, of_bright in zip(dark, bright, strict=True):
        np.testing.assert_allclose(of_bright.births, 1.0 - of_dark.births, rtol=1e-12)
        np.testing.assert_allclose(of_bright.deaths, 1.0 - of_dark.deaths, rtol=1e-12)
        assert voxels(of_bright) == voxels(of_dark)
        assert of_bright.essential_voxel == of_dark.essential_voxel
        assert (of_bright.births > of_bright.deaths).all()
        np.testing.assert_allclose(of_bright.persistences, of_dark.persistences, rtol=1e-12)


def test_sub_level_sets_do_not_see_bright_blobs_as_components() -> None:
    components, _, cavities = diagrams(1.0 - two_blobs(), DiagramConfig())
    assert len(components.births) == 0
    # A bright blob is a cavity of the dark: it fills with its brightest voxel.
    assert sorted(cavities.deaths.tolist()) == [0.7, 0.9]


@pytest.mark.parametrize("level", ["sub", "super"])
@pytest.mark.parametrize("shape", [(4, 5, 7), (1, 6, 8), (5, 1, 4), (1, 1, 9)])
def test_turned_and_mirrored_volumes_have_the_same_points_at_the_same_places(shape, level) -> None:
    volume = np.random.default_rng(3).random(shape)
    config = DiagramConfig(level=level, essential="pair")
    upright = diagrams(volume, config)
    index = np.arange(volume.size).reshape(shape)
    for axes, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        mirrored = tuple(axis for axis, is_flipped in enumerate(flips) if is_flipped)
        turned = diagrams(np.flip(volume.transpose(axes), mirrored), config)
        origin = np.flip(index.transpose(axes), mirrored).ravel()
        for expected, found in zip(upright, turned, strict=True):
            np.testing.assert_array_equal(found.births, expected.births)
            np.testing.assert_array_equal(found.deaths, expected.deaths)
            np.testing.assert_array_equal(origin[found.birth_voxels], expected.birth_voxels)
            np.testing.assert_array_equal(origin[found.death_voxels], expected.death_voxels)
        assert origin[turned[0].essential_voxel] == upright[0].essential_voxel


def betti_numbers(found: Diagrams, threshold: float, level: str) -> list[int]:
    """Classes alive in {volume ≤ threshold}, or {volume ≥ threshold}; the essential one lives wherever a voxel does."""
    sign = 1 if level == "sub" else -1
    return [int(((sign * of.births <= sign * threshold) & (sign * threshold < sign * of.deaths)).sum()) for of in found]


def euler_characteristic(is_inside: np.ndarray) -> int:
    """Vertices − edges + faces − cubes, each cell counted where all its voxels are inside."""
    total = 0
    for extent in product((0, 1), repeat=3):
        cells = is_inside
        for axis in (axis for axis in range(3) if extent[axis]):
            cells = np.take(cells, range(cells.shape[axis] - 1), axis) & np.take(
                cells, range(1, cells.shape[axis]), axis
            )
        total += (-1) ** sum(extent) * int(cells.sum())
    return total


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)),
    seed=st.integers(0, 2**32 - 1),
    num_values=st.sampled_from([3, 6, 1000]),
    level=st.sampled_from(["sub", "super"]),
    backend=st.sampled_from(["gudhi", "cripser"]),
)
def test_every_level_set_has_the_components_tunnels_and_cavities_that_counting_gives(
    shape, seed, num_values, level, backend
) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, num_values, shape) / num_values
    found = diagrams(volume, DiagramConfig(level=level, backend=backend))
    for threshold in rng.choice(np.unique(volume), 3):
        is_inside = volume <= threshold if level == "sub" else volume >= threshold
        components, tunnels, cavities = betti_numbers(found, threshold, level)
        components += 1  # the essential one
        assert components == ndimage.label(is_inside)[1]
        # What is outside hangs together through corners, and with all beyond the border.
        outside = np.pad(~is_inside, 1, constant_values=True)
        assert cavities == ndimage.label(outside, np.ones((3, 3, 3)))[1] - 1
        assert components - tunnels + cavities == euler_characteristic(is_inside)


@pytest.mark.parametrize("level", ["sub", "super"])
def test_points_come_in_one_order_at_the_voxels_that_have_their_values(level) -> None:
    volume = np.random.default_rng(5).integers(0, 12, (6, 9, 7)) / 12
    for found in diagrams(volume, DiagramConfig(level=level)):
        np.testing.assert_array_equal(found.births, volume.ravel()[found.birth_voxels])
        np.testing.assert_array_equal(found.deaths, volume.ravel()[found.death_voxels])
        assert {array.dtype for array in (found.births, found.deaths, found.persistences)} == {np.dtype(np.float64)}
        assert {array.dtype for array in (found.birth_voxels, found.death_voxels)} == {np.dtype(np.int64)}
        keys = list(zip(-found.persistences, found.births, found.birth_voxels, found.death_voxels, strict=True))
        assert keys == sorted(keys)
        assert (found.persistences > 0).all()
        assert (found.dropped, found.dropped_bound) == (0, 0.0)


def test_threshold_and_cap_keep_the_most_persistent_points_and_say_what_they_left_out() -> None:
    volume = np.random.default_rng(7).random((6, 8, 9))
    whole = diagrams(volume, DiagramConfig())
    kept = diagrams(volume, DiagramConfig(least_persistence=0.05, most_points=20))
    left = []
    for all_of, some_of in zip(whole, kept, strict=True):
        count = min(20, int((all_of.persistences >= 0.05).sum()))
        left.append(count)
        assert points(some_of) == points(all_of)[:count]
        np.testing.assert_array_equal(some_of.death_voxels, all_of.death_voxels[:count])
        assert some_of.dropped == len(all_of.births) - count
        assert some_of.dropped_bound == pytest.approx(np.sqrt((all_of.persistences[count:] ** 2).sum() / 2))
        assert some_of.dropped > 0
    assert left[:2] == [20, 20]  # the cap
    assert 0 < left[2] < 20  # the threshold


def test_the_essential_class_is_kept_only_when_asked_for_and_only_once() -> None:
    volume = np.random.default_rng(9).random((3, 4, 5))
    assert [found.essential_voxel for found in diagrams(volume, DiagramConfig())] == [None, None, None]
    paired = [found.essential_voxel for found in diagrams(volume, KEEP_ESSENTIAL)]
    assert paired == [int(volume.argmin()), None, None]
    bright = diagrams(volume, DiagramConfig(essential="pair", level="super"))
    assert bright[0].essential_voxel == int(volume.argmax())


@pytest.mark.parametrize("backend", ["gudhi", "cripser"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (1, 1, 6)])
def test_a_constant_volume_has_no_points(backend, shape) -> None:
    for level in ("sub", "super"):
        found = diagrams(np.full(shape, 0.25), DiagramConfig(backend=backend, level=level, essential="pair"))
        assert [len(of.births) + len(of.persistences) for of in found] == [0, 0, 0]
        assert found[0].essential_voxel == 0


@pytest.mark.parametrize("backend", ["gudhi", "cripser"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "uint64", "float16", "float32", ">f8"])
def test_numbers_of_every_kind_are_taken_exactly(dtype, backend) -> None:
    volume = (np.random.default_rng(11).random((4, 5, 7)) * 200 - (0 if dtype[0] in "bu" else 100)).astype(dtype)
    for level in ("sub", "super"):
        config = DiagramConfig(level=level, backend=backend)
        expected = diagrams(volume.astype(np.float64), config)
        for found, exact in zip(diagrams(volume, config), expected, strict=True):
            assert points(found) == points(exact)
            np.testing.assert_array_equal(found.birth_voxels, exact.birth_voxels)


@pytest.mark.parametrize("backend", ["gudhi", "cripser"])
def test_the_layout_in_memory_does_not_matter_and_nothing_is_written(backend) -> None:
    volume = np.random.default_rng(13).random((4, 6, 7))
    before = volume.copy()
    config = DiagramConfig(backend=backend)
    expected = diagrams(volume, config)
    spread = np.repeat(np.repeat(volume, 2, axis=0), 3, axis=2)[::2, :, ::3]
    locked = volume.copy()
    locked.flags.writeable = False
    for other in (np.asfortranarray(volume), spread, locked, volume[::-1].copy()[::-1]):
        for found, exact in zip(diagrams(other, config), expected, strict=True):
            assert points(found) == points(exact)
            np.testing.assert_array_equal(found.death_voxels, exact.death_voxels)
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_values_that_are_not_finite_are_refused_with_their_place(value) -> None:
    volume = np.zeros((2, 3, 4))
    volume[1, 2, 0] = volume[1, 2, 3] = value
    with pytest.raises(DataError, match=r"2 of 24 voxels are not finite numbers, the first at \(1, 2, 0\)") as caught:
        diagrams(volume, DiagramConfig())
    assert caught.value.code == "NONFINITE"


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (1, 2, 3, 4), (0, 3, 4), (3, 4, 0)])
def test_what_is_no_volume_is_refused(shape) -> None:
    with pytest.raises(DataError, match="no volume") as caught:
        diagrams(np.zeros(shape), DiagramConfig())
    assert caught.value.code == "NOT_3D"


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 3, 4), complex),
        np.zeros((2, 3, 4), object),
        np.zeros((2, 3, 4), "datetime64[s]"),
        np.zeros((2, 3, 4), np.longdouble),
        np.full((2, 3, 4), 2**53 + 1),
        np.full((2, 3, 4), -(2**53) - 1),
    ],
)
def test_values_that_float64_does_not_hold_are_refused(values) -> None:
    with pytest.raises(DataError, match="are not all real numbers that float64 holds") as caught:
        diagrams(values, DiagramConfig())
    assert caught.value.code == "SYNTAX_UNSUPPORTED"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"least_persistence": -0.1}, "no persistence can be -0.1"),
        ({"least_persistence": float("nan")}, "no persistence can be nan"),
        ({"least_persistence": float("inf")}, "no persistence can be inf"),
        ({"most_points": 0}, "a diagram of 0 points"),
    ],
)
def test_nonsense_in_a_configuration_is_refused(changes, words) -> None:
    with pytest.raises(ConfigError, match=words):
        DiagramConfig(**changes)


def test_a_configuration_comes_back_from_plain_values() -> None:
    config = DiagramConfig(backend="cripser", level="super", essential="pair", least_persistence=0.02, most_points=512)
    assert configuration.load(DiagramConfig, configuration.dump(config)) == config
    with pytest.raises(ConfigError, match="input should be 'auto', 'gudhi' or 'cripser'"):
        configuration.load(DiagramConfig, {"backend": "ripser"})
