r"""How far two diagrams are from each other: the squared 2-Wasserstein distance, and the pairs that realise it.

$$W_2^2 = \min \sum_{pairs} |a - b|^2 + \sum_{alone} \mathrm{persistence}^2 / 2$$ over all ways to pair some points of
the one with some of the other. A point left alone goes to the nearest point of the diagonal.

Source: arXiv 2406.10519, whose loss is made of squared 2-Wasserstein distances in dimensions 0, 1 and 2.
Differs: the ground norm is not known here; L2 was chosen, which is smooth (libraries mostly take L∞). With
    m = (b + d)/√2 and p = (d − b)/√2 a pair saves 2 p q − (m − n)² over two points left alone, so only pairs that save
    something are looked for, and no copies of the diagonal are needed.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from apatite.core.errors import DataError
from apatite.topology.assignment import assign
from apatite.topology.diagrams import Diagram
from apatite.topology.partners import plant

Points = Float[np.ndarray, "points"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matching:
    """Which points of two diagrams belong together.

    Attributes:
        pairs: Places in `found` and in `wanted`, by place in `found`; points in no pair go to the diagonal.
        squared_distance: $W_2^2$ with ground norm L2, in the square of the volume's unit.
    """

    pairs: Int64[np.ndarray, "pairs 2"]
    squared_distance: float


def match(found: Diagram, wanted: Diagram) -> Matching:
    """The pairs of points that make the 2-Wasserstein distance of two diagrams, exactly.

    Memory grows with the points, not with their product; docs/benchmarks.md has times. The components that never die,
    where both diagrams keep them, are each other's partners and are counted in the distance.

    Args:
        found: Of either level, sub or super.
        wanted: Of the same dimension and level.

    Raises:
        DataError: other dimensions or levels, or values that are not finite (`NONFINITE`).
    """
    _refuse_unlike(found, wanted)
    pairs = _identity(found, wanted)
    if pairs is None:
        pairs = _best_pairs(found, wanted)
    return Matching(pairs=pairs, squared_distance=_squared_distance(found, wanted, pairs))


def _refuse_unlike(found: Diagram, wanted: Diagram) -> None:
    if found.dimension != wanted.dimension:
        raise DataError(
            f"a diagram of dimension {found.dimension} is no match for one of dimension {wanted.dimension}",
            fix="pair diagrams of one dimension",
        )
    for diagram in (found, wanted):
        if not (np.isfinite(diagram.births).all() and np.isfinite(diagram.deaths).all()):
            raise DataError(
                "a diagram has births or deaths that are not finite",
                fix="leave out the class that never dies; `essential_voxel` names it",
                code="NONFINITE",
            )
    lives = np.concatenate([found.deaths - found.births, wanted.deaths - wanted.births])
    if (lives > 0).any() and (lives < 0).any():
        raise DataError(
            "some points die above their birth and some below it",
            fix="make both diagrams with the same level, sub or super",
        )


def _identity(found: Diagram, wanted: Diagram) -> Int64[np.ndarray, "pairs 2"] | None:
    """The pairs of diagrams with the same points, whose distance is then zero to the last digit; otherwise None."""
    if len(found.births) != len(wanted.births):
        return None
    orders = [np.lexsort((diagram.deaths, diagram.births)) for diagram in (found, wanted)]
    for one, other in ((found.births, wanted.births), (found.deaths, wanted.deaths)):
        if not np.array_equal(one[orders[0]], other[orders[1]]):
            return None
    return _sorted(orders[0], orders[1])


def _best_pairs(found: Diagram, wanted: Diagram) -> Int64[np.ndarray, "pairs 2"]:
    is_live = [diagram.births != diagram.deaths for diagram in (found, wanted)]
    places = [np.flatnonzero(live) for live in is_live]
    if not (len(places[0]) and len(places[1])):
        return np.empty((0, 2), dtype=np.int64)
    (one, order), (other, other_order) = (
        plant(*_turned(diagram, live)) for diagram, live in zip((found, wanted), is_live, strict=True)
    )
    if len(order) <= len(other_order):
        partner = assign(one, other)
        ours = np.flatnonzero(partner >= 0)
        theirs = partner[ours]
    else:
        partner = assign(other, one)
        theirs = np.flatnonzero(partner >= 0)
        ours = partner[theirs]
    return _sorted(places[0][order[ours]], places[1][other_order[theirs]])


def _turned(
    diagram: Diagram, is_live: Bool[np.ndarray, "points"]
) -> tuple[Float64[np.ndarray, "live"], Float64[np.ndarray, "live"]]:
    """Along the diagonal, m, and away from it, p: the plane turned by 45°, points off the diagonal only."""
    births, deaths = diagram.births[is_live].astype(np.float64), diagram.deaths[is_live].astype(np.float64)
    return (births + deaths) / sqrt(2), np.abs(deaths - births) / sqrt(2)


def _squared_distance(found: Diagram, wanted: Diagram, pairs: Int64[np.ndarray, "pairs 2"]) -> float:
    """Of the points themselves, so that equal points are exactly zero apart."""
    ours, theirs = pairs[:, 0], pairs[:, 1]
    apart = (found.births[ours] - wanted.births[theirs]) ** 2 + (found.deaths[ours] - wanted.deaths[theirs]) ** 2
    alone = [np.delete(found.persistences, ours), np.delete(wanted.persistences, theirs)]
    return float(apart.sum() + sum((lives**2).sum() for lives in alone) / 2) + _between_essentials(found, wanted)


def _between_essentials(found: Diagram, wanted: Diagram) -> float:
    """The components that never die are each other's only partners; where only one is kept, nothing is compared."""
    if found.essential_birth is None or wanted.essential_birth is None:
        return 0.0
    return (found.essential_birth - wanted.essential_birth) ** 2


def _sorted(ours: Int64[np.ndarray, "pairs"], theirs: Int64[np.ndarray, "pairs"]) -> Int64[np.ndarray, "pairs 2"]:
    order = np.argsort(ours)
    return np.stack([ours[order], theirs[order]], axis=1)
