"""Solids with a signed distance: the bricks of which the anatomy is built.

A solid is one row of a table, so that compiled code can walk over them. What a solid does to the tissue is its role:
soft tissue of one value, air, bone (joined smoothly with the other bone), carved out of bone, or a bright speck.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

Vector = tuple[float, float, float]

ELLIPSOID, ROD, BOX = 0, 1, 2
SOFT, AIR, BONE, CARVE, SPECK = 0, 1, 2, 3, 4

KIND, ROLE, VALUE, CENTRE, SIZE, TURN, EXTRA, COLUMNS = 0, 1, 2, 3, 6, 9, 18, 20
"""Columns of the table: kind, role, HU, centre (3), size (3), rotation (9), two numbers of the kind."""


@dataclass(kw_only=True)
class Solids:
    """A growing table of solids; later soft tissue covers earlier soft tissue.

    Attributes:
        rows: One row of `COLUMNS` numbers per solid, mm and HU.
        bounds: Per solid, the box (low xyz, high xyz, mm) that holds it.
    """

    rows: list[np.ndarray] = field(default_factory=list)
    bounds: list[np.ndarray] = field(default_factory=list)
    frame: ClassVar[str] = "region frame: x right, y anterior, z superior, mm"

    def ellipsoid(
        self, role: int, centre: Vector, radii: Vector, value: float = 0.0, turn_deg: Vector = (0, 0, 0)
    ) -> None:
        """Add an ellipsoid with half axes `radii`, turned about x, y, z."""
        turn = rotation(turn_deg)
        reach = np.sqrt((turn.T**2) @ np.square(radii))
        self._add(
            ELLIPSOID, role, value, np.array(centre, dtype=float), np.array(radii, dtype=float), turn, (0.0, 0.0), reach
        )

    def box(self, role: int, centre: Vector, halves: Vector, value: float = 0.0, turn_deg: Vector = (0, 0, 0)) -> None:
        """Add a box with rounded edges; `halves` include the rounding."""
        turn = rotation(turn_deg)
        rounding = 0.7 * min(halves)
        reach = np.abs(turn.T) @ np.array(halves, dtype=float)
        self._add(
            BOX, role, value, np.array(centre, dtype=float), np.array(halves, dtype=float), turn, (rounding, 0.0), reach
        )

    def rod(self, role: int, ends: tuple[Vector, Vector], radii: tuple[float, float], value: float = 0.0) -> None:
        """Add a rod with round ends whose radius changes linearly from end to end."""
        start, end = np.array(ends[0], dtype=float), np.array(ends[1], dtype=float)
        reach = np.abs(end - start) / 2 + max(radii)
        # A rod keeps its far end in the columns of the size; its bounds are centred between the two ends.
        self._add(ROD, role, value, start, end, np.eye(3), radii, reach, middle=(start + end) / 2)

    def table(self) -> tuple[Float[np.ndarray, "solids columns"], Float[np.ndarray, "solids 6"]]:
        """All rows and all bounds as arrays."""
        return np.array(self.rows).reshape(-1, COLUMNS), np.array(self.bounds).reshape(-1, 6)

    def _add(self, kind, role, value, centre, size, turn, extra, reach, middle=None) -> None:  # noqa: PLR0913 - one row
        self.rows.append(np.concatenate([[kind, role, value], centre, size, turn.ravel(), extra]))
        middle = centre if middle is None else middle
        self.bounds.append(np.concatenate([middle - reach, middle + reach]))


def rotation(turn_deg: Vector) -> Float[np.ndarray, "3 3"]:
    """Matrix from patient axes to the solid's own axes, for turns about x, then y, then z."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(np.radians(turn_deg)), np.cos(np.radians(turn_deg))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.ascontiguousarray((about_z @ about_y @ about_x).T)


@njit(cache=True, error_model="numpy")
@no_type_check
def signed_distance(solids: np.ndarray, q: int, x: float, y: float, z: float) -> float:
    """Distance (mm) from a point to the surface of solid `q`, negative inside; exact near the surface only."""
    dx, dy, dz = x - solids[q, 3], y - solids[q, 4], z - solids[q, 5]
    if solids[q, KIND] == ROD:
        ax, ay, az = solids[q, 6] - solids[q, 3], solids[q, 7] - solids[q, 4], solids[q, 8] - solids[q, 5]
        along = (dx * ax + dy * ay + dz * az) / max(ax * ax + ay * ay + az * az, 1e-12)
        along = min(max(along, 0.0), 1.0)
        ex, ey, ez = dx - along * ax, dy - along * ay, dz - along * az
        return math.sqrt(ex * ex + ey * ey + ez * ez) - (solids[q, 18] + along * (solids[q, 19] - solids[q, 18]))
    u = solids[q, 9] * dx + solids[q, 10] * dy + solids[q, 11] * dz
    v = solids[q, 12] * dx + solids[q, 13] * dy + solids[q, 14] * dz
    w = solids[q, 15] * dx + solids[q, 16] * dy + solids[q, 17] * dz
    if solids[q, KIND] == ELLIPSOID:
        a, b, c = u / solids[q, 6], v / solids[q, 7], w / solids[q, 8]
        level = math.sqrt(a * a + b * b + c * c)
        a, b, c = a / solids[q, 6], b / solids[q, 7], c / solids[q, 8]
        slope = math.sqrt(a * a + b * b + c * c)
        if slope < 1e-9:
            return -min(solids[q, 6], solids[q, 7], solids[q, 8])
        return level * (level - 1.0) / slope
    r = solids[q, 18]
    a, b, c = abs(u) - solids[q, 6] + r, abs(v) - solids[q, 7] + r, abs(w) - solids[q, 8] + r
    p, s, t = max(a, 0.0), max(b, 0.0), max(c, 0.0)
    return math.sqrt(p * p + s * s + t * t) + min(max(a, b, c), 0.0) - r


@njit(cache=True, error_model="numpy")
@no_type_check
def smooth_union(first: float, second: float, width_mm: float) -> float:
    """Join two distances with a rounded seam (polynomial smooth minimum, Quilez)."""
    overlap = max(width_mm - abs(first - second), 0.0)
    return min(first, second) - overlap * overlap / (4.0 * width_mm)
