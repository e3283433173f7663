"""An analytic head of ellipsoids, sampled at the pixel centres of any slices; three ways to lay slices through it.

Nothing but the lesion reaches 130 HU, so its volume is a count of pixels. It lies off the middle on every axis, and
three markers of different value say which way is left, front and up. Coordinates are LPS mm, as in DICOM.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int16

AIR_HU, BRAIN_HU, LESION_HU = -1000, 30, 230
"""Brain and lesion lie equally far from 130 HU, so that tools which interpolate keep the lesion's size."""

HEAD_RADII_MM = (80.0, 90.0, 100.0)
LESION_CENTRE_LPS_MM, LESION_RADII_MM = (30.0, -10.0, 10.0), (18.0, 12.0, 15.0)
MARKERS = {
    "left": ((55.0, 0.0, -20.0), 12.0, 70),
    "front": ((0.0, -62.0, -15.0), 12.0, 90),
    "top": ((-12.0, 20.0, 36.0), 12.0, 110),
}
"""Centre (LPS mm), radius (mm), HU."""
BRAIN_LPS_MM = (-30.0, 20.0, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Planes:
    """Where slices lie.

    Attributes:
        origins_lps_mm: Centre of the first pixel of each slice.
        along_row, along_column: Unit vectors (LPS): to the next column, to the next row.
        spacing_mm: Between rows, between columns.
        size: Rows, columns.
        thickness_mm: Nominal.
        tilt_deg: What the gantry tag says; `None` leaves it out.
        position: PatientPosition.
    """

    origins_lps_mm: Float[np.ndarray, "slices 3"]
    along_row: Float[np.ndarray, "3"]
    along_column: Float[np.ndarray, "3"]
    spacing_mm: tuple[float, float] = (3.0, 3.0)
    size: tuple[int, int] = (64, 64)
    thickness_mm: float = 5.0
    tilt_deg: float | None = 0.0
    position: str = "HFS"

    @property
    def normal(self) -> Float[np.ndarray, "3"]:
        """Across the slices, by the right-hand rule of row and column."""
        return np.cross(self.along_row, self.along_column)

    def keep(self, slices: list[int]) -> "Planes":
        """The same with some slices only, in that order."""
        return replace(self, origins_lps_mm=self.origins_lps_mm[slices])


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How slices are laid through the head.

    Attributes:
        along_row, along_column: Before they are made unit vectors.
        steps_mm: Distances between neighbours, along `step`.
        step: Where the next slice lies; `None` is the normal. Another direction than the normal is a gantry tilt.
        spacing_mm, size, thickness_mm, tilt_deg, position: As in `Planes`.
    """

    along_row: tuple[float, float, float] = (1.0, 0.0, 0.0)
    along_column: tuple[float, float, float] = (0.0, 1.0, 0.0)
    steps_mm: tuple[float, ...] = (5.0,) * 23
    step: tuple[float, float, float] | None = None
    spacing_mm: tuple[float, float] = (3.0, 3.0)
    size: tuple[int, int] = (64, 64)
    thickness_mm: float = 5.0
    tilt_deg: float | None = 0.0
    position: str = "HFS"

    def planes(self) -> Planes:
        """The slices, the middle of all of them near the middle of the head."""
        row, column = np.array(self.along_row), np.array(self.along_column)
        row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
        step = np.cross(row, column) if self.step is None else np.array(self.step)
        along = np.concatenate([[0.0], np.cumsum(self.steps_mm)])
        middles = (along - along[-1] / 2)[:, None] * step + np.array([0.0, 0.0, 1.0])
        corner = (self.size[1] - 1) / 2 * self.spacing_mm[1] * row + (self.size[0] - 1) / 2 * self.spacing_mm[
            0
        ] * column
        return Planes(
            origins_lps_mm=middles - corner,
            along_row=row,
            along_column=column,
            spacing_mm=self.spacing_mm,
            size=self.size,
            thickness_mm=self.thickness_mm,
            tilt_deg=self.tilt_deg,
            position=self.position,
        )


def tilted(degrees: float, tag_deg: float | None, steps_mm: tuple[float, ...] = (5.0,) * 23) -> Layout:
    """A gantry tilted about the patient's left-right axis, the table moving along the patient."""
    angle = np.deg2rad(degrees)
    column = (0.0, float(np.cos(angle)), float(np.sin(angle)))
    return Layout(along_column=column, step=(0.0, 0.0, 1.0), tilt_deg=tag_deg, steps_mm=steps_mm)


def turned(about_x_deg: float, about_y_deg: float, position: str = "HFS") -> Layout:
    """Oblique slices, perpendicular to the direction in which they follow each other."""
    x, y = np.deg2rad(about_x_deg), np.deg2rad(about_y_deg)
    turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    row, column = POSITIONS[position]
    turn = turn_x @ turn_y
    return Layout(along_row=_plain(turn @ row), along_column=_plain(turn @ column), tilt_deg=None, position=position)


def _plain(vector: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z


POSITIONS = {
    "HFS": ((1, 0, 0), (0, 1, 0)),
    "FFS": ((-1, 0, 0), (0, 1, 0)),
    "HFP": ((-1, 0, 0), (0, -1, 0)),
    "FFP": ((1, 0, 0), (0, -1, 0)),
    "HFDR": ((0, -1, 0), (1, 0, 0)),
    "HFDL": ((0, 1, 0), (-1, 0, 0)),
    "FFDR": ((0, 1, 0), (1, 0, 0)),
    "FFDL": ((0, -1, 0), (-1, 0, 0)),
}
"""Direction of rows and of columns (LPS) as a scanner writes them for each PatientPosition."""

BASES = {
    "even": Layout(),
    "tilted": tilted(-15.0, 15.0, steps_mm=(5.0,) * 12 + (7.0,) * 11),
    "oblique": turned(5.0, 12.0, "FFS"),
}
"""An even one; 15° of gantry tilt with steps of 5 and then 7 mm; feet first and 12° oblique."""


def head_hu(points_lps_mm: Float[np.ndarray, "*points 3"]) -> Int16[np.ndarray, "*points"]:
    """Hounsfield units of the head at points."""
    hu = np.full(points_lps_mm.shape[:-1], AIR_HU, np.int16)
    hu[_inside(points_lps_mm, (0.0, 0.0, 0.0), HEAD_RADII_MM)] = BRAIN_HU
    for centre, radius, value in MARKERS.values():
        hu[_inside(points_lps_mm, centre, (radius,) * 3)] = value
    hu[_inside(points_lps_mm, LESION_CENTRE_LPS_MM, LESION_RADII_MM)] = LESION_HU
    return hu


def _inside(points: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    return (((points - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) <= 1


def sample(planes: Planes) -> Int16[np.ndarray, "slices rows columns"]:
    """Hounsfield units of the head on slices; every pixel is the value at its centre."""
    rows, columns = planes.size
    down = np.arange(rows)[:, None] * planes.spacing_mm[0] * planes.along_column
    across = np.arange(columns)[:, None] * planes.spacing_mm[1] * planes.along_row
    return head_hu(planes.origins_lps_mm[:, None, None] + down[:, None] + across)


@lru_cache
def sampled(layout: Layout) -> Int16[np.ndarray, "slices rows columns"]:
    """The same for a layout, computed once; not to be written to."""
    hu = sample(layout.planes())
    hu.flags.writeable = False
    return hu
