"""Every backend finds the same points: GUDHI and cripser are each other's oracle."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from apatite.core.errors import ConfigError
from apatite.topology import backends, through_cripser, through_gudhi
from apatite.topology.backends import BACKENDS, backend
from apatite.topology.diagrams import DiagramConfig, diagrams

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 9))


def values_of(pairs: np.ndarray, volume: np.ndarray) -> list[tuple[float, float]]:
    return sorted((float(volume.ravel()[birth]), float(volume.ravel()[death])) for birth, death in pairs.tolist())


@pytest.mark.parametrize("level", ["sub", "super"])
@pytest.mark.parametrize("shape", [(5, 8, 11), (11, 5, 8), (1, 7, 12), (9, 1, 4), (1, 1, 40), (2, 1100, 3)])
def test_without_ties_points_and_voxels_are_the_same(shape, level) -> None:
    volume = np.random.default_rng(1).random(shape)
    found = {name: diagrams(volume, DiagramConfig(backend=name, level=level)) for name in ("gudhi", "cripser")}
    for gudhi, cripser in zip(found["gudhi"], found["cripser"], strict=True):
        for name in ("births", "deaths", "birth_voxels", "death_voxels"):
            np.testing.assert_array_equal(getattr(gudhi, name), getattr(cripser, name))


def test_on_a_smooth_volume_too() -> None:
    volume = gaussian_filter(np.random.default_rng(2).random((10, 17, 13)), 1.0)
    counts = []
    for gudhi, cripser in zip(
        diagrams(volume, DiagramConfig()), diagrams(volume, DiagramConfig(backend="cripser")), strict=True
    ):
        np.testing.assert_array_equal(gudhi.birth_voxels, cripser.birth_voxels)
        np.testing.assert_array_equal(gudhi.death_voxels, cripser.death_voxels)
        counts.append(len(gudhi.births))
    assert min(counts) >= 5


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1), num_values=st.integers(2, 8))
def test_where_neighbours_tie_the_values_are_the_same(shape, seed, num_values) -> None:
    volume = np.random.default_rng(seed).integers(0, num_values, shape) / num_values
    for gudhi, cripser in zip(through_gudhi.pairs(volume), through_cripser.pairs(volume), strict=True):
        assert values_of(gudhi, volume) == values_of(cripser, volume)


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_pair_is_of_two_different_voxels_of_the_volume(name) -> None:
    volume = np.random.default_rng(4).integers(0, 5, (4, 6, 7)) / 5
    found = BACKENDS[name](volume)
    assert len(found) == 3
    for pairs in found:
        assert pairs.dtype == np.int64
        assert pairs.ndim == 2
        assert ((pairs >= 0) & (pairs < volume.size)).all()
        assert (volume.ravel()[pairs[:, 0]] < volume.ravel()[pairs[:, 1]]).all()


def test_the_birth_that_cripser_states_is_the_value_at_the_voxel_it_names() -> None:
    from cripser import computePH

    volume = np.random.default_rng(6).random((4, 7, 9))
    rows = computePH(volume, maxdim=2)
    rows = rows[rows[:, 2] <= volume.max()]
    stated = [sorted(map(tuple, rows[rows[:, 0] == dimension, 1:3].tolist())) for dimension in range(3)]
    assert [values_of(pairs, volume) for pairs in through_cripser.pairs(volume)] == stated


def test_the_birth_that_gudhi_states_is_the_value_at_the_voxel_it_names() -> None:
    from gudhi import CubicalComplex

    volume = np.random.default_rng(8).random((4, 7, 9))
    stated = CubicalComplex(vertices=volume).persistence()
    for dimension, pairs in enumerate(through_gudhi.pairs(volume)):
        expected = sorted(point for of, point in stated if of == dimension and np.isfinite(point[1]))
        assert values_of(pairs, volume) == expected


def test_auto_takes_cripser_where_it_is_installed(monkeypatch) -> None:
    assert backend("auto") is BACKENDS["cripser"]
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert backend("auto") is BACKENDS["gudhi"]


def test_an_unknown_backend_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown persistence backend 'gudi' -> did you mean 'gudhi'"):
        backend("gudi")


def test_a_missing_cripser_says_how_it_is_installed(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cripser", None)
    with pytest.raises(ConfigError, match="'cripser' cannot be imported") as caught:
        diagrams(np.zeros((2, 3, 4)), DiagramConfig(backend="cripser"))
    assert caught.value.code == "BACKEND_MISSING"
    assert "pip install 'apatite[cripser]'" in caught.value.fix
    assert backend("auto") is BACKENDS["gudhi"]


def test_gudhi_needs_neither_torch_nor_cripser() -> None:
    code = (
        "import json, sys, numpy as np\n"
        "from apatite.topology.diagrams import DiagramConfig, diagrams\n"
        "diagrams(np.arange(24.0).reshape(2, 3, 4), DiagramConfig())\n"
        "print(json.dumps([name for name in ('torch', 'cripser', 'ot') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []
