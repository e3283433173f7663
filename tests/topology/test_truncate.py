"""What leaving points out costs, against exact distances by POT through GUDHI."""

import math

import numpy as np
import pytest
from gudhi.wasserstein import wasserstein_distance
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.topology.diagrams import Diagram, DiagramConfig, diagrams
from apatite.topology.truncate import distance_bound, num_kept


def distance(a: Diagram, b: Diagram) -> float:
    """W2 with ground norm L2."""
    rows = [np.stack([of.births, of.deaths], axis=1) for of in (a, b)]
    return float(wasserstein_distance(*rows, order=2, internal_p=2))


@pytest.mark.parametrize(
    ("least", "most", "count"),
    [
        (0.0, None, 5),
        (0.2, None, 4),  # exactly the threshold stays
        (0.21, None, 2),
        (0.9, None, 0),
        (0.0, 3, 3),
        (0.2, 3, 3),
        (0.21, 3, 2),
        (0.0, 9, 5),
    ],
)
def test_threshold_and_cap_by_hand(least, most, count) -> None:
    assert num_kept(np.array([0.8, 0.5, 0.2, 0.2, 0.1]), least, most) == count


def test_nothing_comes_of_nothing() -> None:
    assert num_kept(np.empty(0), 0.1, 4) == 0
    assert distance_bound(np.empty(0)) == 0.0


def test_the_bound_by_hand() -> None:
    # A 3-4-5 triangle: √((0.3² + 0.4²) / 2).
    assert distance_bound(np.array([0.4, 0.3])) == pytest.approx(0.5 / math.sqrt(2))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    least=st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    most=st.sampled_from([None, 1, 3, 8]),
    level=st.sampled_from(["sub", "super"]),
)
def test_no_distance_moves_by_more_than_the_bound(seed, least, most, level) -> None:
    rng = np.random.default_rng(seed)
    volume, other = rng.random((3, 4, 5)), rng.random((4, 3, 6))
    config = DiagramConfig(least_persistence=least, most_points=most, level=level)
    whole = diagrams(volume, DiagramConfig(level=level))
    wanted = diagrams(other, DiagramConfig(level=level))
    for all_of, kept, target in zip(whole, diagrams(volume, config), wanted, strict=True):
        assert len(kept.births) + kept.dropped == len(all_of.births)
        assert abs(distance(all_of, target) - distance(kept, target)) <= kept.dropped_bound + 1e-9
        assert distance(all_of, kept) <= kept.dropped_bound + 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), least=st.sampled_from([0.1, 0.3]))
def test_the_bound_is_reached_where_nothing_else_is_near(seed, least) -> None:
    volume = np.random.default_rng(seed).random((3, 4, 5))
    nothing = diagrams(np.zeros((2, 2, 2)), DiagramConfig())[0]
    components = diagrams(volume, DiagramConfig())[0]
    kept = diagrams(volume, DiagramConfig(least_persistence=least))[0]
    # Against the empty diagram squares add up: what was left out is exactly what is missing.
    missing = distance(components, nothing) ** 2 - distance(kept, nothing) ** 2
    assert missing == pytest.approx(kept.dropped_bound**2, abs=1e-12)
