"""The carotid siphon: a centreline through the cavernous sinus with a lumen and a wall round it.

Points on the wall have three coordinates: `along` (mm of centreline), `angle` (radians about it, in a frame that does
not twist) and the distance from the centreline.

Source: textbook anatomy (entry from the petrous bone, posterior genu, horizontal part, anterior genu, supraclinoid
part), good to about ±20 %; the foci of one real head CT lie 10-15 mm from the midline.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

STEP_MM = 0.5
"""Distance between centreline points."""

# Region frame, right side: mean and half range of each control point, from the petrous bone to the bifurcation.
_CONTROL_MM = np.array([
    [31.0, -25.0, -15.0], [26.0, -22.5, -13.5], [19.5, -20.0, -10.8], [14.2, -12.4, -4.4], [12.0, -4.0, -3.0],
    [11.4, 4.2, -2.2], [11.0, 8.6, 2.2], [10.2, 3.2, 6.8], [10.0, -2.4, 9.2], [10.4, -3.5, 13.6], [13.0, -3.5, 18.5],
])  # fmt: skip
_RANGE_MM = np.array([
    [2.0, 1.5, 1.5], [2.0, 1.5, 1.5], [2.0, 1.5, 1.5], [1.5, 1.5, 1.2], [1.6, 1.0, 1.0],
    [1.6, 1.4, 1.0], [1.4, 1.6, 0.9], [1.3, 1.4, 1.0], [1.3, 1.4, 1.0], [1.5, 2.0, 1.0], [1.5, 2.0, 1.0],
])  # fmt: skip
SIDES = ("right", "left")


@dataclass(frozen=True, kw_only=True, eq=False)
class Artery:
    """One carotid siphon.

    Attributes:
        side: "right" (x > 0) or "left".
        points_mm: Centreline in the region frame, `STEP_MM` apart.
        first_axis: Unit vectors across the centreline; angle 0.
        second_axis: The same, angle 90 degrees.
        bend_per_mm: Curvature vectors; they point to the inner side of the bend.
        lumen_mm: Radius of the lumen.
        wall_mm: Thickness of the wall.
        sites_mm: Positions along the centreline of the control points (entry, posterior genu, ...).
    """

    side: str
    points_mm: Float[np.ndarray, "points 3"]
    first_axis: Float[np.ndarray, "points 3"]
    second_axis: Float[np.ndarray, "points 3"]
    bend_per_mm: Float[np.ndarray, "points 3"]
    lumen_mm: float
    wall_mm: float
    sites_mm: tuple[float, ...]

    @property
    def radius_mm(self) -> float:
        """From the centreline to the outside of the wall."""
        return self.lumen_mm + self.wall_mm

    @property
    def length_mm(self) -> float:
        """Length of the centreline."""
        return STEP_MM * (len(self.points_mm) - 1)


def draw_arteries(rng: np.random.Generator) -> tuple[Artery, Artery]:
    """Draw both siphons of a patient; left and right share about 70 % of their variance."""
    shape = (len(_CONTROL_MM), 3)
    common, own = rng.uniform(-1, 1, shape), rng.uniform(-1, 1, (2, *shape))
    calibre, wall = rng.uniform(-1, 1), rng.uniform(-1, 1)
    arteries = []
    for number, side in enumerate(SIDES):
        control = _CONTROL_MM + _RANGE_MM * np.clip(np.sqrt(0.7) * common + np.sqrt(0.3) * own[number], -1, 1)
        control = control * np.array([1.0 if side == "right" else -1.0, 1.0, 1.0])
        lumen = 2.38 + 0.36 * np.clip(0.85 * calibre + rng.uniform(-0.4, 0.4), -1, 1)
        thickness = 0.65 + 0.15 * np.clip(0.85 * wall + rng.uniform(-0.4, 0.4), -1, 1)
        arteries.append(build_artery(side, control, float(lumen), float(thickness)))
    return arteries[0], arteries[1]


def build_artery(side: str, control_mm: Float[np.ndarray, "control 3"], lumen_mm: float, wall_mm: float) -> Artery:
    """Lay a smooth tube through control points.

    Args:
        side: "right" or "left".
        control_mm: Points to pass near, in order.
        lumen_mm: Radius of the lumen.
        wall_mm: Thickness of the wall.

    Returns:
        A tube whose bends are wide enough that no two cross-sections meet (radius of the bend > 1.15 tube radii).
    """
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(control_mm, axis=0), axis=1))])
    points = _evenly(CubicSpline(chord, control_mm)(np.linspace(0, chord[-1], 400)))
    limit = 1.0 / (1.15 * (lumen_mm + wall_mm))
    for _ in range(200):
        if np.linalg.norm(_bend(points), axis=1)[2:-2].max() < limit:
            break
        points = points.copy()
        points[1:-1] += 0.25 * (points[:-2] - 2 * points[1:-1] + points[2:])
        points = _evenly(points)
    points = _evenly(points, STEP_MM)
    first, second = _untwisted_axes(points)
    nearest = np.linalg.norm(points[:, None] - control_mm[None], axis=-1).argmin(axis=0)
    return Artery(
        side=side,
        points_mm=points,
        first_axis=first,
        second_axis=second,
        bend_per_mm=_bend(points),
        lumen_mm=lumen_mm,
        wall_mm=wall_mm,
        sites_mm=tuple(float(i) * STEP_MM for i in nearest),
    )


def _evenly(points: Float[np.ndarray, "n 3"], step_mm: float = 0.0) -> Float[np.ndarray, "m 3"]:
    """The same curve with evenly spaced points: about `STEP_MM` apart from end to end, or exactly `step_mm` apart."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    wanted = (
        np.arange(0.0, length[-1], step_mm)
        if step_mm
        else np.linspace(0.0, length[-1], round(length[-1] / STEP_MM) + 1)
    )
    return np.stack([np.interp(wanted, length, points[:, axis]) for axis in range(3)], axis=1)


def _bend(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Curvature vectors, lightly smoothed over the joints of the polyline."""
    bend = np.zeros_like(points)
    bend[2:-2] = (points[4:] - 2 * points[2:-2] + points[:-4]) / (2 * STEP_MM) ** 2
    return bend


def _untwisted_axes(points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Two unit vectors across the curve, carried along it without turning about it."""
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    axis = np.cross(tangents[0], [0.0, 0.0, 1.0])
    first = np.empty_like(points)
    for number, tangent in enumerate(tangents):
        axis = axis - (axis @ tangent) * tangent
        axis = axis / np.linalg.norm(axis)
        first[number] = axis
    return first, np.cross(tangents, first)
