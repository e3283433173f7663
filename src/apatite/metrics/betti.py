"""How many components, tunnels and cavities a set of voxels has, and by how many two sets differ in them.

Voxels touch by their faces (6-connected) and what is around them by faces, edges and corners (26-connected): the
topology of the V-construction, in which voxels are vertices and a square or a cube is there where all its corners are.
With V, E, F, C its vertices, edges, squares and cubes,

    χ = V − E + F − C = β0 − β1 + β2        so        β1 = β0 + β2 − χ

where β0 counts the components of the set and β2 those of the rest that are shut in; no persistence is needed.

    Betti-number error = |Δβ0| + |Δβ1| + |Δβ2|

Source: Euler–Poincaré; Alexander duality for β2. The error after Hu et al. 2019 (arXiv 1906.05404), section 4.
Differs: one sum over the three dimensions, over the whole region instead of random patches of it.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from apatite.metrics.lesion import box_of

Marked = Bool[np.ndarray, "slices rows columns"]

_Cells = Bool[np.ndarray, "_ _ _"]
_ALL_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class BettiNumbers:
    """The Betti numbers of a set of voxels; all are 0 where it is empty.

    Attributes:
        components: β0, 6-connected. Voxels that touch by an edge alone are two; lesions (26-connected) are one there.
        tunnels: β1: a ring has one.
        cavities: β2: a hollow sphere has one; the border of the volume shuts nothing in.
    """

    components: int
    tunnels: int
    cavities: int


def betti_numbers(is_marked: Marked) -> BettiNumbers:
    """Components, tunnels and cavities of the marked voxels; edges of 1 voxel are fine."""
    is_marked = is_marked[box_of(is_marked)]
    if not is_marked.size:
        return BettiNumbers(components=0, tunnels=0, cavities=0)
    _, num_components = ndimage.label(is_marked)  # pyright: ignore[reportGeneralTypeIssues]
    # One voxel of margin joins everything that is outside.
    _, num_around = ndimage.label(~np.pad(is_marked, 1), structure=_ALL_26)  # pyright: ignore[reportGeneralTypeIssues]
    num_cavities = int(num_around) - 1
    return BettiNumbers(
        components=int(num_components),
        tunnels=int(num_components) + num_cavities - euler_characteristic(is_marked),
        cavities=num_cavities,
    )


def euler_characteristic(is_marked: Marked) -> int:
    """Vertices − edges + squares − cubes of the marked voxels, over the eight kinds of cells."""
    total = 0
    for extent in product((0, 1), repeat=3):
        # A cell is there where all its corners are; its corners along an axis are two neighbours, or one voxel.
        is_cell = is_marked
        for axis in range(3):
            if extent[axis]:
                is_cell = _without(is_cell, axis, last=True) & _without(is_cell, axis, last=False)
        total += (-1) ** sum(extent) * int(np.count_nonzero(is_cell))
    return total


def betti_error(is_predicted: Marked, is_reference: Marked) -> int:
    """Sum over the three dimensions of how many more or fewer features the prediction has than the reference.

    It knows nothing of where they are: two sets with nothing in common may have an error of 0. It is a count beside
    overlap and distance, and no replacement for them.

    Args:
        is_predicted: True where the prediction is.
        is_reference: True where the reference is.
    """
    found, wanted = betti_numbers(is_predicted), betti_numbers(is_reference)
    return (
        abs(found.components - wanted.components)
        + abs(found.tunnels - wanted.tunnels)
        + abs(found.cavities - wanted.cavities)
    )


def _without(is_cell: _Cells, axis: int, *, last: bool) -> _Cells:
    """All but the first, or all but the last, along an axis."""
    kept = slice(None, -1) if last else slice(1, None)
    return is_cell[tuple(kept if number == axis else slice(None) for number in range(3))]
