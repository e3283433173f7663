"""Pairs of the cubical complex by GUDHI.

Differs: GUDHI counts flat voxels in Fortran order. It is given the edges backwards, (width, height, depth), so that its
Fortran order is the C order of (depth, height, width) and no index needs turning.
"""

import numpy as np
from gudhi import CubicalComplex
from jaxtyping import Float64, Int64


def pairs(
    volume: Float64[np.ndarray, "depth height width"],
) -> tuple[Int64[np.ndarray, "_ 2"], Int64[np.ndarray, "_ 2"], Int64[np.ndarray, "_ 2"]]:
    """Flat voxels of birth and death per dimension 0, 1, 2; pairs of equal value and the essential class left out."""
    cells = CubicalComplex(vertices=volume.ravel(), dimensions=volume.shape[::-1])
    cells.compute_persistence()
    regular, _ = cells.vertices_of_persistence_pairs()
    found = [np.asarray(of_dimension, dtype=np.int64).reshape(-1, 2) for of_dimension in regular]
    found += [np.empty((0, 2), dtype=np.int64)] * (3 - len(found))
    return found[0], found[1], found[2]
