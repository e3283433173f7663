"""A regular grid in the patient, and the voxels on it.

Arrays are ordered `depth height width` everywhere in the package; points are `ijk` (i along width, j along height,
k along depth) and RAS millimetres, as in NIfTI: +x to the patient's right, +y anterior, +z superior.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

Affine = Float[np.ndarray, "4 4"]
Points = Float[np.ndarray, "*points 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Where voxels lie: a shape and the map from voxel index to the patient.

    Attributes:
        shape: Voxels along depth, height, width.
        ijk_to_ras: 4×4, from voxel index (i, j, k) to RAS mm. May be sheared (gantry tilt).
    """

    shape: tuple[int, int, int]
    ijk_to_ras: Affine

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel; a product of spacings would be wrong on a sheared grid."""
        return abs(float(np.linalg.det(self.ijk_to_ras[:3, :3])))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Lengths of the voxel's edges along i, j, k."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def centre_ras_mm(self) -> Float[np.ndarray, "3"]:
        """The middle of the grid."""
        depth, height, width = self.shape
        return self.to_ras(np.array([(width - 1) / 2, (height - 1) / 2, (depth - 1) / 2]))

    def to_ras(self, points_ijk: Points) -> Points:
        """From voxel indices (i, j, k) to RAS mm."""
        return points_ijk @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def to_ijk(self, points_ras_mm: Points) -> Points:
        """From RAS mm to (fractional) voxel indices (i, j, k)."""
        return (points_ras_mm - self.ijk_to_ras[:3, 3]) @ np.linalg.inv(self.ijk_to_ras[:3, :3]).T

    def matches(self, other: "Grid", tolerance_mm: float = 0.05) -> bool:
        """Whether both grids put every voxel at the same place, to within `tolerance_mm` at the corners."""
        if self.shape != other.shape:
            return False
        depth, height, width = self.shape
        corners = np.array(
            [[i, j, k] for i in (0, width - 1) for j in (0, height - 1) for k in (0, depth - 1)], dtype=float
        )
        return bool(np.abs(self.to_ras(corners) - other.to_ras(corners)).max() <= tolerance_mm)


def axis_aligned_grid(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], centre_ras_mm: Float[np.ndarray, "3"]
) -> Grid:
    """A grid along the patient's axes (i along +x, j along +y, k along +z) around a centre.

    Args:
        shape: Voxels along depth, height, width.
        spacing_mm: Along i, j, k.
        centre_ras_mm: The middle of the grid.
    """
    depth, height, width = shape
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = centre_ras_mm - np.array(spacing_mm) * (np.array([width, height, depth]) - 1) / 2
    return Grid(shape=shape, ijk_to_ras=affine)


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """Voxels on a grid.

    Attributes:
        voxels: An array `depth height width`.
        grid: Where they lie; its shape is the array's.
    """

    voxels: Shaped[np.ndarray, "depth height width"]
    grid: Grid

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise ValueError(f"voxels {self.voxels.shape} do not fit the grid {self.grid.shape}")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A quantity with a two-sided interval at a stated coverage."""

    value: float
    low: float
    high: float
    unit: str
    coverage: float

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.3g}{unit} [{self.low:.3g}; {self.high:.3g}]"
