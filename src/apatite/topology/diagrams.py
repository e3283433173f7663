"""Where the shape of a volume is born and dies: persistence diagrams of its cubical complex.

Sub-level sets {volume ≤ t} grow with t from the darkest voxel to all of the volume. Components, tunnels and cavities
appear in them (birth) and are merged, closed or filled (death); each such pair of values is a point of the diagram of
dimension 0, 1 or 2. Every voxel is a vertex of the complex, and a cell has the largest value of its vertices, so voxels
hang together through their six faces. Every birth and death is the value of one voxel, which is where a gradient goes.

Source: arXiv 2406.10519 for the diagrams as what a loss compares, in dimensions 0 to 2 with voxels as vertices.
Differs: whether it takes sub- or super-level sets, drops points or keeps the class that never dies is not known here;
    `DiagramConfig` states what was decided.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

from apatite.core.errors import ConfigError, DataError
from apatite.topology.backends import Backend, backend
from apatite.topology.truncate import distance_bound, num_kept

Level = Literal["sub", "super"]
Essential = Literal["drop", "pair"]

_EXACT: Final = 2**53
"""The integers up to here are float64 numbers."""

_LARGEST: Final = 1e150
"""Beyond it squared persistences overflow."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagram:
    """The points of one homology dimension of one volume, most persistent first.

    Attributes:
        dimension: 0 components, 1 tunnels, 2 cavities.
        births: Value at which each appears, in the volume's unit.
        deaths: Value at which it is gone; above its birth for sub-level sets, below it for super-level sets.
        birth_voxels: Flat index in C order of the voxel that has the value of birth. Where neighbours tie it is one of
            them, which one depends on the backend.
        death_voxels: The same for the death.
        essential_voxel: Where the component that never dies is born; None unless it is asked for, and always None in
            dimensions 1 and 2.
        essential_birth: The value there.
        dropped: Points left out by threshold and cap.
        dropped_bound: W2 (ground norm L2) to any diagram changes by at most this for their absence.
    """

    dimension: int
    births: Float[np.ndarray, "points"]
    deaths: Float[np.ndarray, "points"]
    birth_voxels: Int64[np.ndarray, "points"]
    death_voxels: Int64[np.ndarray, "points"]
    essential_voxel: int | None = None
    essential_birth: float | None = None
    dropped: int = 0
    dropped_bound: float = 0.0

    @property
    def persistences(self) -> Float[np.ndarray, "points"]:
        """|death − birth|, in the volume's unit."""
        return np.abs(self.deaths - self.births)


Diagrams = tuple[Diagram, Diagram, Diagram]
"""Of dimensions 0, 1 and 2."""


@dataclass(frozen=True, kw_only=True)
class DiagramConfig:
    """How a volume becomes diagrams.

    Attributes:
        backend: gudhi, cripser (faster; `pip install 'apatite[cripser]'`), or auto: cripser where it is installed.
        level: sub: objects are dark and grow from the darkest voxel; super: they are bright.
        essential: Whether the one component that never dies is dropped, or its voxel kept to be paired with another's.
        least_persistence: Points below it are left out, in the volume's unit; 0 keeps all.
        most_points: Per dimension, so many of the most persistent points are kept; none keeps all.
    """

    backend: Backend = "gudhi"
    level: Level = "sub"
    essential: Essential = "drop"
    least_persistence: float = 0.0
    most_points: int | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.least_persistence) and self.least_persistence >= 0):
            raise ConfigError(
                f"no persistence can be {self.least_persistence}", fix="set least_persistence to 0 or more"
            )
        if self.most_points is not None and self.most_points < 1:
            raise ConfigError(
                f"a diagram of {self.most_points} points says nothing", fix="set most_points to 1 or more"
            )


def diagrams(volume: Shaped[np.ndarray, "..."], config: DiagramConfig) -> Diagrams:
    """The persistence diagrams of a volume in dimensions 0, 1 and 2.

    Args:
        volume: `depth height width`, real numbers of any kind and layout; edges of one voxel are fine.
        config: Backend, direction and what is left out.

    Returns:
        Diagrams in float64, points by falling persistence, then birth, then voxel. A constant volume has no points.

    Raises:
        DataError: not one volume (`NOT_3D`), no real numbers that float64 holds (`SYNTAX_UNSUPPORTED`), or not all
            finite and within ±1e150 (`NONFINITE`).
        ConfigError: the backend is unknown, or not installed (`BACKEND_MISSING`).
    """
    values = _checked(volume)
    rising = values if config.level == "sub" else -values
    found = backend(config.backend)(rising)
    flat, essential = values.ravel(), int(rising.argmin())
    return (
        _diagram(0, found[0], flat, config, essential if config.essential == "pair" else None),
        _diagram(1, found[1], flat, config),
        _diagram(2, found[2], flat, config),
    )


def _diagram(
    dimension: int,
    pairs: Int64[np.ndarray, "points 2"],
    flat: Float64[np.ndarray, "voxels"],
    config: DiagramConfig,
    essential_voxel: int | None = None,
) -> Diagram:
    """Pairs of voxels in one canonical order, the less persistent ones left out."""
    birth_voxels, death_voxels = pairs[:, 0], pairs[:, 1]
    births = flat[birth_voxels]
    persistences = np.abs(flat[death_voxels] - births)
    order = np.lexsort((death_voxels, birth_voxels, births, -persistences))
    count = num_kept(persistences[order], config.least_persistence, config.most_points)
    kept, dropped = order[:count], order[count:]
    return Diagram(
        dimension=dimension,
        births=births[kept],
        deaths=flat[death_voxels[kept]],
        birth_voxels=birth_voxels[kept],
        death_voxels=death_voxels[kept],
        essential_voxel=essential_voxel,
        essential_birth=None if essential_voxel is None else float(flat[essential_voxel]),
        dropped=len(dropped),
        dropped_bound=distance_bound(persistences[dropped]),
    )


def _checked(volume: Shaped[np.ndarray, "..."]) -> Float64[np.ndarray, "depth height width"]:
    """The volume as float64 in C order, value for value, or a refusal."""
    if volume.ndim != 3 or not volume.size:
        raise DataError(
            f"an array of shape {volume.shape} is no volume", fix="give depth, height and width", code="NOT_3D"
        )
    if volume.dtype.kind not in "buif" or volume.dtype.itemsize > 8 or _is_beyond_float64(volume):
        raise DataError(
            f"values of type {volume.dtype} are not all real numbers that float64 holds",
            fix="convert the volume to float64",
            code="SYNTAX_UNSUPPORTED",
        )
    values = np.ascontiguousarray(volume, dtype=np.float64)
    is_usable = np.abs(values) <= _LARGEST
    if not is_usable.all():
        where = ", ".join(str(index) for index in np.argwhere(~is_usable)[0])
        raise DataError(
            f"{np.count_nonzero(~is_usable)} of {values.size} voxels are not finite numbers, the first at ({where})",
            fix="clip or replace them before looking for topology",
            code="NONFINITE",
        )
    return values


def _is_beyond_float64(volume: Shaped[np.ndarray, "..."]) -> bool:
    """Whether integers of 64 bits are too large to keep every digit."""
    return volume.dtype.kind in "ui" and bool(volume.max() > _EXACT or volume.min() < -_EXACT)
