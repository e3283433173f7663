"""The distance of diagrams against GUDHI with POT, against all permutations, and against its own proof."""

from itertools import combinations, permutations

import numpy as np
import pytest
from gudhi.wasserstein import wasserstein_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment

from apatite.core.errors import DataError
from apatite.topology.assignment import assign
from apatite.topology.diagrams import Diagram, DiagramConfig, diagrams
from apatite.topology.matching import Matching, match
from apatite.topology.partners import best_two, plant, raise_price


def diagram_of(points: list[tuple[float, float]] | np.ndarray, dimension: int = 1) -> Diagram:
    values = np.array(points, dtype=np.float64).reshape(-1, 2)
    voxels = np.arange(len(values))
    return Diagram(
        dimension=dimension, births=values[:, 0], deaths=values[:, 1], birth_voxels=voxels, death_voxels=voxels
    )


def random_diagram(seed: int, count: int, spread: float = 0.3) -> Diagram:
    draw = np.random.default_rng(seed)
    births = draw.random(count)
    return diagram_of(np.stack([births, births + spread * draw.exponential(size=count)], axis=1))


def points_of(diagram: Diagram) -> np.ndarray:
    return np.stack([diagram.births, diagram.deaths], axis=1)


def cost_of(found: Diagram, wanted: Diagram, pairs: np.ndarray) -> float:
    """Of any pairs, written anew."""
    ours, theirs = points_of(found), points_of(wanted)
    cost = sum(float(((ours[a] - theirs[b]) ** 2).sum()) for a, b in pairs)
    cost += sum(float((d - b) ** 2 / 2) for n, (b, d) in enumerate(ours) if n not in set(pairs[:, 0].tolist()))
    return cost + sum(float((d - b) ** 2 / 2) for n, (b, d) in enumerate(theirs) if n not in set(pairs[:, 1].tolist()))


def by_all_pairs(found: Diagram, wanted: Diagram) -> float:
    """The least cost over all partial pairings, one after the other."""
    ours, theirs = range(len(found.births)), range(len(wanted.births))
    return min(
        cost_of(found, wanted, np.array(list(zip(some, others, strict=True)), dtype=np.int64).reshape(-1, 2))
        for count in range(min(len(ours), len(theirs)) + 1)
        for some in combinations(ours, count)
        for others in permutations(theirs, count)
    )


def by_table(found: Diagram, wanted: Diagram) -> float:
    """The least cost by SciPy, on the table of all pairs and one place on the diagonal for each point."""
    ours, theirs = points_of(found), points_of(wanted)
    apart = ((ours[:, None] - theirs) ** 2).sum(axis=2)
    alone = [(points[:, 1] - points[:, 0]) ** 2 / 2 for points in (ours, theirs)]
    table = np.full((len(ours) + len(theirs),) * 2, 0.0)
    table[: len(ours), : len(theirs)] = apart
    table[: len(ours), len(theirs) :] = alone[0][:, None]
    table[len(ours) :, : len(theirs)] = alone[1][None, :]
    return float(table[linear_sum_assignment(table)].sum())


def refuse_wrong_pairs(found: Diagram, wanted: Diagram, matching: Matching) -> None:
    assert len(set(matching.pairs[:, 0].tolist())) == len(set(matching.pairs[:, 1].tolist())) == len(matching.pairs)
    assert (np.diff(matching.pairs[:, 0]) > 0).all()
    assert cost_of(found, wanted, matching.pairs) == pytest.approx(matching.squared_distance, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("ours", "theirs", "squared_distance", "pairs"),
    [
        ([], [], 0, []),
        ([(1, 3)], [], 2, []),
        ([], [(1, 3), (0, 1)], 2.5, []),
        ([(0, 1)], [(0, 2)], 1, [(0, 0)]),
        # Apart: 9 + 9 as a pair, 0.5 each alone.
        ([(0, 1)], [(3, 4)], 1, []),
        # A pair costs just what both cost alone: (m − n)² = 2 p q.
        ([(0, 1)], [(1, 2)], 1, None),
        # The nearest pair first would cost 0 + 4.
        ([(0, 20), (0, 21)], [(0, 21), (0, 22)], 2, [(0, 0), (1, 1)]),
        # Two of ours want one of theirs; the larger gain wins, the other goes to the diagonal.
        ([(0, 10), (0, 10.5)], [(0, 10.4)], 0.01 + 50, [(1, 0)]),
        # A point on the diagonal is in no pair, however near.
        ([(2, 2), (0, 4)], [(2, 2.5)], 4 + 2.25, [(1, 0)]),
    ],
)
def test_distances_by_hand(ours, theirs, squared_distance, pairs):
    found, wanted = diagram_of(ours), diagram_of(theirs)
    matching = match(found, wanted)
    assert matching.squared_distance == pytest.approx(squared_distance, abs=1e-12)
    refuse_wrong_pairs(found, wanted, matching)
    if pairs is not None:
        assert matching.pairs.tolist() == [list(pair) for pair in pairs]


@pytest.mark.parametrize("seed", range(12))
def test_no_partial_pairing_is_cheaper(seed):
    draw = np.random.default_rng(seed)
    found = random_diagram(seed, int(draw.integers(0, 6)))
    wanted = random_diagram(seed + 100, int(draw.integers(0, 6)))
    matching = match(found, wanted)
    assert matching.squared_distance == pytest.approx(by_all_pairs(found, wanted), rel=1e-10)
    refuse_wrong_pairs(found, wanted, matching)


@pytest.mark.parametrize(("ours", "theirs", "spread"), [(70, 40, 0.3), (40, 41, 0.01), (150, 150, 3.0), (1, 90, 0.3)])
def test_the_distance_is_that_of_gudhi_with_pot(ours, theirs, spread):
    found, wanted = random_diagram(1, ours, spread), random_diagram(2, theirs, spread)
    peer, _ = wasserstein_distance(points_of(found), points_of(wanted), order=2, internal_p=2, matching=True)
    assert match(found, wanted).squared_distance == pytest.approx(float(peer) ** 2, rel=1e-6)


@pytest.fixture(scope="module")
def diagrams_of_volumes():
    """A smooth volume and a noisier one, of unequal edges; several hundred points in each dimension."""
    draw = np.random.default_rng(5)
    noise = draw.random((2, 16, 22, 19))
    volumes = gaussian_filter(noise[0], 0.6), 0.7 * gaussian_filter(noise[0], 0.6) + 0.1 * noise[1]
    return tuple(diagrams(volume, DiagramConfig()) for volume in volumes)


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_diagrams_of_volumes_are_as_far_apart_as_a_full_table_says(diagrams_of_volumes, dimension):
    found, wanted = (each[dimension] for each in diagrams_of_volumes)
    assert min(len(found.births), len(wanted.births)) > 60
    matching = match(found, wanted)
    refuse_wrong_pairs(found, wanted, matching)
    assert matching.squared_distance == pytest.approx(by_table(found, wanted), rel=1e-10)


def turned(diagram: Diagram) -> tuple[np.ndarray, np.ndarray]:
    return (diagram.births + diagram.deaths) / 2**0.5, (diagram.deaths - diagram.births) / 2**0.5


@pytest.mark.parametrize(("ours", "theirs"), [(1500, 2100), (2000, 2000)])
def test_prices_prove_that_no_pairs_save_more(ours, theirs):
    trees = [plant(*turned(random_diagram(seed, count)))[0] for seed, count in ((3, ours), (4, theirs))]
    partner = assign(*trees)
    saved = 2 * trees[0].sizes[:, None] * trees[1].sizes - (trees[0].means[:, None] - trees[1].means) ** 2
    prices = trees[0].prices[:, None] + trees[1].prices
    is_paired = np.flatnonzero(partner >= 0)
    assert (saved - prices).max() < 1e-12
    assert min(tree.prices.min() for tree in trees) > -1e-12
    assert sum(tree.prices.sum() for tree in trees) == pytest.approx(
        saved[is_paired, partner[is_paired]].sum(), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(3))
def test_values_of_few_levels_tie_everywhere_and_are_still_matched_best(seed):
    draw = np.random.default_rng(seed)
    births = draw.integers(0, 4, (2, 130)) / 4
    both = [
        diagram_of(np.stack([birth, birth + draw.integers(1, 3, 130) / 4], axis=1)[: 130 - 40 * number])
        for number, birth in enumerate(births)
    ]
    assert match(*both).squared_distance == pytest.approx(by_table(*both), abs=1e-9)


def test_many_copies_of_one_point_are_matched_with_as_many_as_there_are():
    found, wanted = diagram_of([(0.25, 0.75)] * 700), diagram_of([(0.25, 0.75)] * 500 + [(4, 5)])
    matching = match(found, wanted)
    assert matching.squared_distance == pytest.approx(200 * 0.125 + 0.5, rel=1e-9)
    assert len(matching.pairs) == 500


FEW = st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 2)).map(lambda p: (p[0], p[0] + p[1])), max_size=9)


@settings(max_examples=60, deadline=None)
@given(FEW, FEW, FEW)
def test_it_is_a_distance(first, second, third):
    one, two, three = diagram_of(first), diagram_of(second), diagram_of(third)
    there, back = match(one, two).squared_distance, match(two, one).squared_distance
    assert there == pytest.approx(back, rel=1e-9, abs=1e-12)
    assert there == pytest.approx(by_table(one, two), rel=1e-9, abs=1e-12)
    around = match(one, three).squared_distance ** 0.5 + match(three, two).squared_distance ** 0.5
    assert there**0.5 <= around + 1e-6


@settings(max_examples=40, deadline=None)
@given(FEW, st.randoms(use_true_random=False))
def test_a_diagram_is_exactly_no_distance_from_itself_in_any_order(points, random):
    shuffled = list(points)
    random.shuffle(shuffled)
    matching = match(diagram_of(points), diagram_of(shuffled))
    assert matching.squared_distance == 0
    assert [points[a] for a, _ in matching.pairs] == [shuffled[b] for _, b in matching.pairs]


def test_super_level_sets_are_mirror_images():
    found, wanted = random_diagram(7, 50), random_diagram(8, 60)
    mirrored = [diagram_of(-points_of(diagram)) for diagram in (found, wanted)]
    straight, other = match(found, wanted), match(*mirrored)
    assert other.squared_distance == pytest.approx(straight.squared_distance, rel=1e-12)
    assert other.pairs.tolist() == straight.pairs.tolist()


def test_the_unit_of_the_volume_does_not_matter():
    found, wanted = random_diagram(9, 80), random_diagram(10, 75)
    in_hu = [diagram_of(1500 * points_of(diagram) - 1000) for diagram in (found, wanted)]
    straight, other = match(found, wanted), match(*in_hu)
    assert other.squared_distance == pytest.approx(1500**2 * straight.squared_distance, rel=1e-9)
    assert other.pairs.tolist() == straight.pairs.tolist()


def test_the_same_twice():
    found, wanted = random_diagram(11, 400), random_diagram(12, 380)
    assert match(found, wanted).pairs.tolist() == match(found, wanted).pairs.tolist()


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (diagram_of([(0, 1)], 0), diagram_of([(0, 1)], 2), "dimension 0 is no match for one of dimension 2"),
        (diagram_of([(0, np.inf)]), diagram_of([]), "not finite"),
        (diagram_of([]), diagram_of([(np.nan, 1)]), "not finite"),
        (diagram_of([(0, 1)]), diagram_of([(1, 0)]), "die above their birth and some below"),
    ],
)
def test_what_cannot_be_compared_is_refused(ours, theirs, words):
    with pytest.raises(DataError, match=words):
        match(ours, theirs)


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 25, 333])
def test_the_tree_finds_the_best_two_at_any_prices(count):
    draw = np.random.default_rng(count)
    tree, order = plant(draw.random(count), draw.random(count) + 0.01)
    assert sorted(order.tolist()) == list(range(count))
    owner = np.full(count, -1)
    for _ in range(60):
        raise_price(tree, int(draw.integers(count)), float(draw.random() * 0.2))
        mean, size = draw.random(2)
        gains = 2 * size * tree.sizes - (mean - tree.means) ** 2 - tree.prices
        best, gain, second = best_two(tree, owner, mean, size)
        wanted = np.sort(np.append(gains[gains > 0], [0.0, 0.0]))[::-1]
        assert (gain, second) == (pytest.approx(wanted[0]), pytest.approx(wanted[1]))
        assert best == (int(gains.argmax()) if gains.max() > 0 else -1)
        assert tree.worth[1] == (tree.sizes**2 - tree.prices).max()


def test_of_two_equal_offers_the_one_nobody_has_is_taken():
    tree, _ = plant(np.full(3, 0.5), np.full(3, 0.2))
    owner = np.array([4, -1, 7])
    assert best_two(tree, owner, 0.5, 0.2)[0] == 1


@pytest.mark.parametrize("level", ["sub", "super"])
def test_components_that_never_die_are_paired_with_each_other(level):
    """Least values 0.125 and 0.5, largest 1 and 2: the squared difference is added to what the points give."""
    first = np.array([[[0.125, 1.0, 0.25, 0.75, 0.25]]])
    second = np.array([[[0.5, 2.0, 0.75, 1.5, 0.75]]])
    pair, drop = (DiagramConfig(level=level, essential=essential) for essential in ("pair", "drop"))
    found, wanted = (diagrams(volume, pair)[0] for volume in (first, second))
    plain = match(*(diagrams(volume, drop)[0] for volume in (first, second))).squared_distance
    apart = 0.125 - 0.5 if level == "sub" else 1.0 - 2.0
    assert match(found, wanted).squared_distance == pytest.approx(plain + apart**2, rel=1e-12)
    assert match(found, diagrams(second, drop)[0]).squared_distance == plain
    assert match(found, found).squared_distance == 0
