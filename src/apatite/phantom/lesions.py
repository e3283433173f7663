"""Plaques in the wall of the siphon, whose volume is known by integration, not by counting voxels.

The plaques of one artery are a map over its wall: thickness (mm, from the outside of the wall inwards), density (HU)
and the number of the plaque, at every position along and angle round the artery. A point is calcium where its
distance from the centreline lies between `radius - thickness` and `radius`. The volume is the integral of that in the
coordinates of the bent tube:

    V = sum over the map of  [ (R² - r²) / 2  -  k (R³ - r³) / 3 ] d(angle) d(along),   r = R - thickness

where k is the curvature towards that angle. Intimal plaques are irregular chunks under 90° of arc; medial plaques are
thin and long, rings or tram-tracks.

Source: patterns after Kockelkoren et al. 2017; volumes log-normal, median 120 mm³ as in a stroke trial or 44 mm³ as
in Bos et al. 2012 (Rotterdam).
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int16
from numba import njit

from apatite.phantom.siphon import STEP_MM, Artery

ALONG_MM = 0.25
NUM_ANGLES = 72
THINNEST_MM = 0.12
"""Thinner calcium is no plaque: the map's soft edges end here."""
_SITE_WEIGHTS = ((1.6, 2.6, 0.06), (2.6, 3.4, 0.20), (3.4, 5.2, 0.36), (5.2, 6.8, 0.28), (6.8, 8.6, 0.10))
"""From control point a to control point b (fractions allowed), and the share of plaques that sit there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WallMap:
    """All plaques of one artery.

    Attributes:
        thickness_mm: `along angle`; 0 where there is no calcium. Angles go round from 0 in `NUM_ANGLES` steps.
        density_hu: The same shape.
        plaque: Number of the plaque, from 1; 0 where there is none.
    """

    thickness_mm: Float[np.ndarray, "along angle"]
    density_hu: Float[np.ndarray, "along angle"]
    plaque: Int16[np.ndarray, "along angle"]


@dataclass(frozen=True, kw_only=True)
class Plaque:
    """One plaque as drawn: side, pattern ("intimal" or "medial"), density, and its volume by integration."""

    number: int
    side: str
    pattern: str
    density_hu: float
    volume_mm3: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CalciumPieces:
    """The calcium of one artery cut into small pieces, to sum what lies inside some region.

    Attributes:
        points_mm: Middle of each piece, region frame.
        volume_mm3: Volume of each piece.
        plaque: Number of the plaque it belongs to.
    """

    points_mm: Float[np.ndarray, "pieces 3"]
    volume_mm3: Float[np.ndarray, "pieces"]
    plaque: Int16[np.ndarray, "pieces"]


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What is drawn of a plaque before its size is fitted to a volume."""

    pattern: str
    along_mm: float
    angle: float
    length_mm: float
    half_arc: float
    thickness_mm: float
    density_hu: float
    ripples: tuple[float, ...]


def empty_map(artery: Artery) -> WallMap:
    """The wall of an artery without calcium."""
    shape = (int(artery.length_mm / ALONG_MM) + 1, NUM_ANGLES)
    return WallMap(thickness_mm=np.zeros(shape), density_hu=np.zeros(shape), plaque=np.zeros(shape, dtype=np.int16))


def draw_plaques(
    rng: np.random.Generator, artery: Artery, target_mm3: float, medial_share: float
) -> tuple[WallMap, list[Plaque]]:
    """Fill the wall of one artery with about `target_mm3` of calcium.

    Args:
        rng: Randomness of this artery.
        artery: The artery.
        target_mm3: Wanted volume; 0 gives an empty wall. A wall that is full ends below the target.
        medial_share: Probability that a plaque is medial (thin and long).

    Returns:
        The map, and the plaques in the order drawn, with volumes by integration.
    """
    wall = empty_map(artery)
    patterns: dict[int, _Shape] = {}
    remaining = target_mm3
    for number in range(1, 26):
        if remaining < 0.25:
            break
        shape = _draw_shape(rng, artery, "medial" if rng.random() < medial_share else "intimal")
        typical = 10.0 if shape.pattern == "intimal" else 35.0
        wanted = min(remaining, typical * math.exp(0.9 * rng.standard_normal()) + 0.12 * target_mm3)
        if remaining - wanted < 0.15 * target_mm3:
            wanted = remaining
        _grow_to(wall, artery, shape, wanted, number)
        patterns[number] = shape
        remaining = target_mm3 - float(calcium_mm3(wall, artery).sum())
    volumes = np.bincount(wall.plaque.ravel(), calcium_mm3(wall, artery).ravel(), minlength=len(patterns) + 1)
    plaques = [
        Plaque(number=n, side=artery.side, pattern=s.pattern, density_hu=s.density_hu, volume_mm3=float(volumes[n]))
        for n, s in patterns.items()
        if volumes[n] > 0
    ]
    return wall, plaques


def calcium_mm3(wall: WallMap, artery: Artery) -> Float[np.ndarray, "along angle"]:
    """Volume of calcium in each element of a wall map, in the coordinates of the bent tube."""
    outer, inner = artery.radius_mm, artery.radius_mm - wall.thickness_mm
    bend = _bend_towards(artery, len(wall.thickness_mm))
    area = (outer**2 - inner**2) / 2 - bend * (outer**3 - inner**3) / 3
    return np.where(wall.thickness_mm > THINNEST_MM, area, 0.0) * (2 * np.pi / NUM_ANGLES) * ALONG_MM


def calcium_pieces(wall: WallMap, artery: Artery) -> CalciumPieces:
    """The same volume as small pieces with a place each."""
    volume = calcium_mm3(wall, artery)
    rows, columns = np.nonzero(volume > 0)
    index = rows * ALONG_MM / STEP_MM
    lower = np.minimum(index.astype(int), len(artery.points_mm) - 2)
    share = (index - lower)[:, None]

    def at(values: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "pieces 3"]:
        return values[lower] * (1 - share) + values[lower + 1] * share

    angle = (columns * (2 * np.pi / NUM_ANGLES))[:, None]
    middle = (artery.radius_mm - wall.thickness_mm[rows, columns] / 2)[:, None]
    points = at(artery.points_mm) + middle * (
        np.cos(angle) * at(artery.first_axis) + np.sin(angle) * at(artery.second_axis)
    )
    return CalciumPieces(points_mm=points, volume_mm3=volume[rows, columns], plaque=wall.plaque[rows, columns])


def _draw_shape(rng: np.random.Generator, artery: Artery, pattern: str) -> _Shape:
    site = _SITE_WEIGHTS[rng.choice(len(_SITE_WEIGHTS), p=[w for _, _, w in _SITE_WEIGHTS])]
    position = rng.uniform(site[0], site[1])
    along = float(np.interp(position, np.arange(len(artery.sites_mm)), artery.sites_mm))
    index = min(round(along / STEP_MM), len(artery.points_mm) - 1)
    outward = -artery.bend_per_mm[index]
    outer_curve = math.atan2(float(outward @ artery.second_axis[index]), float(outward @ artery.first_axis[index]))
    angle = outer_curve + 0.9 * rng.standard_normal()
    ripples = tuple(rng.uniform(0, 2 * np.pi, 6))
    if pattern == "intimal":
        size = (rng.uniform(2.0, 6.0), rng.uniform(0.25, 0.75), rng.uniform(0.7, 2.2))
        density = float(np.clip(np.exp(rng.normal(6.25, 0.5)), 180, 1500))
    else:
        size = (rng.uniform(5.0, 20.0), rng.uniform(0.9, 3.1), rng.uniform(0.4, 0.8))
        density = float(np.clip(np.exp(rng.normal(6.15, 0.4)), 180, 1200))
    return _Shape(
        pattern=pattern,
        along_mm=along,
        angle=angle,
        length_mm=size[0],
        half_arc=size[1],
        thickness_mm=size[2],
        density_hu=density,
        ripples=ripples,
    )


def _grow_to(wall: WallMap, artery: Artery, shape: _Shape, wanted_mm3: float, number: int) -> None:
    """Add a plaque whose size adds `wanted_mm3` to what is there (bisection on one scale), in place."""
    is_medial = shape.pattern == "medial"
    middle, reach = round(shape.along_mm / ALONG_MM), round((17.0 if is_medial else 5.5) / ALONG_MM)
    window = slice(max(middle - reach, 0), min(middle + reach + 1, len(wall.thickness_mm)))
    u, v, rough, density = _fields(shape, np.arange(len(wall.thickness_mm))[window])
    bend = _bend_towards(artery, len(wall.thickness_mm))[window]
    before, outer = wall.thickness_mm[window], artery.radius_mm
    low, high = 0.02, 4.0
    for _ in range(11):
        scale = math.sqrt(low * high)
        added = _added_mm3(before, _thickness(u, v, rough, _limits(shape, scale, outer)), bend, outer)
        low, high = (scale, high) if added < wanted_mm3 else (low, scale)
    thickness = _thickness(u, v, rough, _limits(shape, high, outer))
    wins = (thickness > before) & (thickness > THINNEST_MM)
    wall.density_hu[window][wins] = density[wins]
    wall.plaque[window][wins] = number
    wall.thickness_mm[window][wins] = thickness[wins]


def _fields(shape: _Shape, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distance along (mm) and round (radians), roughness and density (HU) of a plaque, before its size is known."""
    along = rows[:, None] * ALONG_MM
    angle = np.arange(NUM_ANGLES)[None] * (2 * np.pi / NUM_ANGLES)
    a, b, c, d, e, f = shape.ripples
    turn = np.abs(np.mod(angle - shape.angle - 0.25 * np.sin(along * 0.8 + a) + np.pi, 2 * np.pi) - np.pi)
    u = np.abs(along - shape.along_mm + 0.35 * np.sin(2 * angle + b))
    v = turn / (1 + 0.25 * np.sin(along * 1.3 + c))
    rough = np.sin(along * 2.1 + d) * np.sin(2 * angle + e) + 0.6 * np.sin(along * 3.7 + f)
    texture = 1 + 0.18 * np.sin(along * 2.9 + e) * np.cos(3 * angle + a) + 0.1 * rough
    return u, v, rough, np.clip(shape.density_hu * np.clip(texture, 0.5, 1.5), 150, 1600)


def _limits(shape: _Shape, scale: float, radius_mm: float) -> np.ndarray:
    """Half length (mm), half arc (radians), greatest thickness (mm), the cap on thickness (mm), and 1 if medial."""
    is_medial = shape.pattern == "medial"
    half_length = min(shape.length_mm * scale, 32.0 if is_medial else 9.0) / 2
    half_arc = min(shape.half_arc * math.sqrt(scale), math.pi if is_medial else 0.78)
    thickest = min(shape.thickness_mm * scale ** (0.25 if is_medial else 0.5), 1.0 if is_medial else 2.6)
    return np.array([half_length, half_arc, thickest, radius_mm - 0.2, float(is_medial)])


@njit(cache=True)
@no_type_check
def _thickness(u: np.ndarray, v: np.ndarray, rough: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Thickness of one plaque: a chunk with round edges (intimal) or a sheet with steep edges (medial)."""
    half_length, half_arc, thickest, most, is_medial = limits[0], limits[1], limits[2], limits[3], limits[4] > 0
    result = np.zeros_like(u)
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            p, q = u[i, j] / half_length, v[i, j] / half_arc
            if p >= 1 or (q >= 1 and not (is_medial and half_arc > 2.8)):
                continue
            if is_medial:
                edge = min((1 - p) * 4, 1.0) * (1.0 if half_arc > 2.8 else min((1 - q) * 4, 1.0))
                value = thickest * edge * min(max(1 + 0.35 * rough[i, j], 0.25), 1.25)
            else:
                body = math.sqrt(1 - p * p) * math.sqrt(1 - q * q)
                value = thickest * body * min(max(1 + 0.3 * rough[i, j], 0.3), 1.35)
            result[i, j] = min(value, most)
    return result


@njit(cache=True)
@no_type_check
def _tube_area(thickness: float, outer: float, bend: float) -> float:
    """Area per radian between `outer - thickness` and `outer` in a bent tube."""
    inner = outer - thickness
    return (outer * outer - inner * inner) / 2 - bend * (outer**3 - inner**3) / 3


@njit(cache=True)
@no_type_check
def _added_mm3(before: np.ndarray, thickness: np.ndarray, bend: np.ndarray, outer: float) -> float:
    """Volume that a plaque adds to what is there."""
    total = 0.0
    for i in range(before.shape[0]):
        for j in range(before.shape[1]):
            if thickness[i, j] > before[i, j] and thickness[i, j] > THINNEST_MM:
                old = _tube_area(before[i, j], outer, bend[i, j]) if before[i, j] > THINNEST_MM else 0.0
                total += _tube_area(thickness[i, j], outer, bend[i, j]) - old
    return total * (2 * math.pi / NUM_ANGLES) * ALONG_MM


def _bend_towards(artery: Artery, num_along: int) -> Float[np.ndarray, "along angle"]:
    """Curvature of the centreline towards each angle of the map, per mm (positive on the inner side)."""
    position = np.arange(num_along) * ALONG_MM
    grid = np.arange(len(artery.points_mm)) * STEP_MM
    first = np.interp(position, grid, np.einsum("ij,ij->i", artery.bend_per_mm, artery.first_axis))
    second = np.interp(position, grid, np.einsum("ij,ij->i", artery.bend_per_mm, artery.second_axis))
    angle = np.arange(NUM_ANGLES) * (2 * np.pi / NUM_ANGLES)
    return first[:, None] * np.cos(angle) + second[:, None] * np.sin(angle)
