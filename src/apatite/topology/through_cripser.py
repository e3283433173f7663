"""Pairs of the cubical complex by cripser (CubicalRipser), if it is installed.

Its licence is the (L)GPL, so it is an optional extra. Importing it takes seconds and loads torch where that is
installed; so it is imported with the first volume.
"""

import numpy as np
from jaxtyping import Float64, Int64

from apatite.core.errors import ConfigError


def pairs(
    volume: Float64[np.ndarray, "depth height width"],
) -> tuple[Int64[np.ndarray, "_ 2"], Int64[np.ndarray, "_ 2"], Int64[np.ndarray, "_ 2"]]:
    """Flat voxels of birth and death per dimension 0, 1, 2; pairs of equal value and the essential class left out.

    Raises:
        ConfigError: cripser cannot be imported (`BACKEND_MISSING`).
    """
    try:
        from cripser import computePH
    except ImportError as error:
        raise missing(str(error)) from error
    rows = computePH(volume, maxdim=2)
    dimensions, births, deaths = rows[:, 0], rows[:, 1], rows[:, 2]
    is_regular = (births < deaths) & (deaths <= volume.max())
    birth_voxels, death_voxels = (
        np.ravel_multi_index(tuple(rows[is_regular, first : first + 3].astype(np.int64).T), volume.shape)
        for first in (3, 6)
    )
    both = np.stack([birth_voxels, death_voxels], axis=1)
    of_dimension = [both[dimensions[is_regular] == dimension] for dimension in range(3)]
    return of_dimension[0], of_dimension[1], of_dimension[2]


def missing(why: str) -> ConfigError:
    """That cripser cannot be used (`BACKEND_MISSING`)."""
    return ConfigError(
        f"the persistence backend 'cripser' cannot be imported: {why}",
        fix="pip install 'apatite[cripser]', or choose the backend gudhi",
        code="BACKEND_MISSING",
    )
