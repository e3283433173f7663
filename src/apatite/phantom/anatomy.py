"""One patient: the skull base round the sella, both siphons, and the calcium in their walls.

Drawn once per patient and scanned several times. Lengths in mm in the region frame (x right, y anterior, z superior,
origin in the middle of the network's region); left and right share most of what is drawn.

Source: textbook ranges, good to ±20 %; texture and tissue fractions after one real head CT
(docs/explanation/phantom.md).
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from apatite.phantom.lesions import Plaque, WallMap
from apatite.phantom.shapes import AIR, BONE, CARVE, SOFT, SPECK, Solids, Vector
from apatite.phantom.siphon import STEP_MM, Artery

PLATE_HU = 700.0
"""Inside of thin plates, which have no marrow to speak of."""
NOISE_EDGE = 32
"""Edge of the noise lattice; a power of two."""


@dataclass(kw_only=True, eq=False)
class Anatomy:
    """Everything that is drawn of one patient.

    Attributes:
        solids: Bone, air, soft tissue and specks.
        arteries: Right and left siphon.
        walls: The calcium in their walls.
        plaques: All plaques with their volumes by integration.
        scalars: Tissue values (HU) and thicknesses (mm) by name, see `SCALARS`.
        septa: Planes inside the sinus: normal (3), offset mm, half thickness mm.
        lattice: Random numbers behind the texture.
    """

    solids: Solids
    arteries: tuple[Artery, Artery]
    walls: tuple[WallMap, WallMap]
    plaques: list[Plaque]
    scalars: dict[str, float]
    septa: Float[np.ndarray, "septa 5"] = field(default_factory=lambda: np.zeros((0, 5)))
    lattice: Float[np.ndarray, "n n n"] = field(default_factory=lambda: np.zeros((NOISE_EDGE,) * 3))


SCALARS = (
    "brain_hu", "cortex_hu", "marrow_hu", "fluid_hu", "fluid_level_mm", "sinus_wall_mm", "cortex_mm", "clearance_mm",
    "right_radius_mm", "left_radius_mm", "blood_hu", "wall_hu", "wall_mm",
)  # fmt: skip


def build_anatomy(
    rng: np.random.Generator, arteries: tuple[Artery, Artery], walls: tuple[WallMap, WallMap], plaques: list[Plaque]
) -> Anatomy:
    """Draw the skull base and soft tissue round two given siphons."""
    solids = Solids()
    scalars = {
        "brain_hu": rng.uniform(29, 36),
        "cortex_hu": rng.uniform(1050, 1650),
        "marrow_hu": rng.uniform(55, 140),
        "fluid_hu": rng.uniform(15, 40),
        "fluid_level_mm": -99.0,
        "sinus_wall_mm": rng.uniform(0.4, 0.7),
        "cortex_mm": rng.uniform(0.25, 0.5),
        "clearance_mm": rng.uniform(0.2, 1.0),
        "right_radius_mm": arteries[0].radius_mm,
        "left_radius_mm": arteries[1].radius_mm,
        "blood_hu": rng.uniform(36, 48),
        "wall_hu": rng.uniform(42, 54),
        "wall_mm": arteries[0].wall_mm,
    }
    anatomy = Anatomy(solids=solids, arteries=arteries, walls=walls, plaques=plaques, scalars=scalars)
    _soft_tissue(rng, solids)
    _sphenoid(rng, solids)
    _sinus(rng, anatomy)
    _petrous(rng, solids, arteries)
    _cavernous(rng, solids, arteries)
    _confounders(rng, solids)
    anatomy.lattice = rng.uniform(-1, 1, (NOISE_EDGE,) * 3)
    return anatomy


def packed(anatomy: Anatomy) -> tuple[np.ndarray, ...]:
    """What the compiled code reads: solids, bounds, scalars, septa, lattice, tubes, walls, reach of the calcium.

    Tubes are `side point (xyz, first axis, second axis)`, walls `side (thickness, density) along angle`; the shorter
    artery goes straight on beyond its end.
    """
    table, bounds = anatomy.solids.table()
    longest = max(len(a.points_mm) for a in anatomy.arteries)
    tubes = np.zeros((2, longest, 9))
    walls = np.zeros((2, 2, max(len(w.thickness_mm) for w in anatomy.walls), anatomy.walls[0].thickness_mm.shape[1]))
    reach = np.zeros((2, longest))
    for side, (artery, wall) in enumerate(zip(anatomy.arteries, anatomy.walls, strict=True)):
        used = len(artery.points_mm)
        tubes[side, :used] = np.concatenate([artery.points_mm, artery.first_axis, artery.second_axis], axis=1)
        beyond = np.arange(1, longest - used + 1)[:, None] * STEP_MM
        tubes[side, used:, :3] = artery.points_mm[-1] + beyond * (artery.points_mm[-1] - artery.points_mm[-2]) / STEP_MM
        walls[side, 0, : len(wall.thickness_mm)], walls[side, 1, : len(wall.thickness_mm)] = (
            wall.thickness_mm,
            wall.density_hu,
        )
        reach[side, :used] = _reach(wall, artery)
    scalars = np.array([anatomy.scalars[name] for name in SCALARS])
    return table, bounds, scalars, anatomy.septa, anatomy.lattice, tubes, walls, reach


def _reach(wall: WallMap, artery: Artery) -> Float[np.ndarray, "points"]:
    """Per centreline point, the greatest thickness of calcium within about 2 mm along."""
    thickest = wall.thickness_mm.max(axis=1)
    rows = np.round(np.linspace(0, len(thickest) - 1, len(artery.points_mm))).astype(int)
    near = np.clip(rows[:, None] + np.arange(-8, 9)[None], 0, len(thickest) - 1)
    return thickest[near].max(axis=1)


def _both(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """One value for either side; they share 70 % of the variance."""
    shared, right, left = rng.uniform(-1, 1, 3)
    middle, half = (low + high) / 2, (high - low) / 2
    values = [middle + half * float(np.clip(0.84 * shared + 0.55 * own, -1, 1)) for own in (right, left)]
    return values[0], values[1]


def _soft_tissue(rng: np.random.Generator, solids: Solids) -> None:
    """Cisterns above and behind the sella, orbits in front, muscle and fat below the skull base."""
    csf = rng.uniform(4, 11)
    solids.ellipsoid(
        SOFT, (0, rng.uniform(-3, 0), 11), (rng.uniform(9, 13), rng.uniform(7, 10), rng.uniform(4, 6)), csf
    )
    solids.ellipsoid(SOFT, (0, -19.5, 0), (rng.uniform(9, 13), rng.uniform(2.5, 4), 17), csf)
    for sign in (1, -1):
        solids.ellipsoid(SOFT, (sign * 17, rng.uniform(-2, 3), 13), (6, 5, rng.uniform(2, 4)), csf)
        solids.ellipsoid(SOFT, (sign * 22, 30, 0), (12, rng.uniform(14, 19), 11), rng.uniform(-105, -85))
        solids.rod(SOFT, ((sign * 8, 2, 8), (sign * 15, 34, 1)), (2.1, 2.1), rng.uniform(30, 40))
        solids.rod(SOFT, ((sign * 13, 14, -4), (sign * 24, 34, -6)), (2.5, 3.5), rng.uniform(45, 60))
        solids.rod(SOFT, ((sign * 13, 14, 3), (sign * 28, 34, 3)), (2.0, 3.0), rng.uniform(45, 60))
        solids.ellipsoid(SOFT, (sign * 24, 4, -30), (11, 14, 9), rng.uniform(-100, -70))
        solids.ellipsoid(SOFT, (sign * 26, 2, -30), (7, 10, 8), rng.uniform(45, 60))
    solids.rod(SOFT, ((-8, 1, 10), (8, 1, 10)), (1.8, 1.8), rng.uniform(32, 40))
    solids.rod(SOFT, ((rng.uniform(-3, 3), -19, -24), (rng.uniform(-2, 2), -17, 14)), (1.8, 1.6), rng.uniform(38, 48))
    solids.ellipsoid(SOFT, (0, -3.5, -1), (6.5, 5.2, 4.5), rng.uniform(45, 60))
    solids.rod(SOFT, ((0, -3, 2), (0, -2, 11)), (1.0, 1.4), rng.uniform(40, 50))


def _sphenoid(rng: np.random.Generator, solids: Solids) -> None:
    """Body, sella, dorsum, clivus, planum, wings and clinoids."""
    floor, back = rng.uniform(-6.0, -3.8), rng.uniform(-11.2, -9.8)
    width = rng.uniform(6.2, 7.8)
    solids.box(BONE, (0, 4, floor - 3.5), (width, 13.5, 5.5))
    solids.box(BONE, (0, 5, -18), (rng.uniform(11.5, 14), 14, 7.5))
    solids.ellipsoid(CARVE, (0, (back + 3.5) / 2 + 0.6, 1.5), (rng.uniform(6.2, 8), (4.2 - back) / 2, 1.5 - floor))
    top = rng.uniform(1.5, 5.0)
    thick = rng.uniform(1.1, 2.0)
    solids.box(
        BONE,
        (0, back - 1.2, (top + floor) / 2 - 1),
        (rng.uniform(5.8, 7.6), thick, (top - floor) / 2 + 1.5),
        turn_deg=(rng.uniform(4, 14), 0, 0),
    )
    slope = rng.uniform(22, 36)
    solids.box(BONE, (0, back - 5.5, -15), (rng.uniform(8.5, 11.5), rng.uniform(3.2, 4.4), 13), turn_deg=(-slope, 0, 0))
    solids.box(BONE, (0, back - 1.5, -15), (rng.uniform(8.0, 10.0), 4.5, 7), turn_deg=(-slope / 2, 0, 0))
    solids.box(
        BONE,
        (0, rng.uniform(14, 16), rng.uniform(1.5, 3.5)),
        (rng.uniform(8, 11), 10.5, rng.uniform(0.3, 0.55)),
        PLATE_HU,
        turn_deg=(rng.uniform(-6, 6), 0, 0),
    )
    solids.rod(BONE, ((-6, 5, 0.5), (6, 5, 0.5)), _same(rng.uniform(1.5, 2.3)))
    size, wing = _both(rng, 1.6, 2.4), _both(rng, 1.3, 2.1)
    knob, reach = _both(rng, 1.3, 2.4), _both(rng, -2.5, 1.0)
    dense = rng.uniform(700, 1200)
    for sign, n in ((1, 0), (-1, 1)):
        root: Vector = (sign * 12.5, 9.5, 5.0)
        solids.rod(BONE, ((sign * 7.5, 10, 3), root), (1.6, 2.1))
        solids.rod(BONE, (root, (sign * 36, 20, 10)), (2.0, wing[n] - 0.3), dense)
        solids.rod(BONE, (root, (sign * (13.0 - 0.4 * size[n]), reach[n], 5.2)), (2.5, size[n]), dense)
        solids.rod(BONE, ((sign * 11.5, 10.5, 4), (sign * 8, 9.5, -4)), (1.5, 1.5))
        solids.ellipsoid(BONE, (sign * rng.uniform(5.2, 7.2), back - 1.2, top), (knob[n] + 0.4, knob[n], knob[n]))
        solids.box(
            BONE,
            (sign * 24, 14.5, -5),
            (13, rng.uniform(0.5, 0.9), 12),
            PLATE_HU,
            turn_deg=(0, 0, sign * rng.uniform(28, 40)),
        )
        solids.box(BONE, (sign * 24, 1, -20), (13, 15, rng.uniform(0.9, 1.5)), PLATE_HU, turn_deg=(0, sign * 10, 0))
        solids.rod(BONE, ((sign * 12, 9, -13), (sign * 13, 11, -32)), (3.5, 4.0))
        if rng.random() < 0.10:
            solids.rod(AIR, ((sign * 12.5, 8.5, 5.0), (sign * 12.6, 4.0, 5.1)), (1.2, 0.9))


def _sinus(rng: np.random.Generator, anatomy: Anatomy) -> None:
    """Air below and before the sella; 5 % of patients have none there, 12 % have it partly filled."""
    solids = anatomy.solids
    for sign in (1, -1):
        solids.ellipsoid(AIR, (sign * 6, 31, -3), (4.6, 7, 8))
    if rng.random() < 0.05:
        return
    shift, half = rng.uniform(-3, 3), rng.uniform(6.0, 11.5)
    roof, back = rng.uniform(-7.0, -4.8), rng.uniform(-9, 1)
    for sign in (1, -1):
        radii = (half * rng.uniform(0.6, 0.85), (17 - back) / 2, rng.uniform(6.0, 9.0))
        solids.ellipsoid(AIR, (shift + sign * 0.45 * half, (17 + back) / 2 - 0.5, roof - radii[2]), radii)
        solids.ellipsoid(
            AIR,
            (shift + sign * 0.5 * half, 12.5, -3.5),
            (rng.uniform(3.2, 5.8), rng.uniform(5.5, 9.0), rng.uniform(3.5, 6.0)),
        )
    tilt = rng.uniform(-0.25, 0.25, 2)
    normal = np.array([1.0, tilt[0], tilt[1]])
    normal /= np.linalg.norm(normal)
    planes = [[*normal, normal @ (shift + rng.uniform(-2, 2), 8, -12), 0.5]]
    if rng.random() < 0.4:
        other = np.array([0.85, rng.choice([-1, 1]) * 0.5, rng.uniform(-0.2, 0.2)])
        other /= np.linalg.norm(other)
        planes.append([*other, other @ (shift + rng.choice([-1, 1]) * 0.5 * half, 8, -12), 0.4])
    anatomy.septa = np.array(planes)
    if rng.random() < 0.12:
        anatomy.scalars["fluid_level_mm"] = float(rng.uniform(-16, -7))


def _petrous(rng: np.random.Generator, solids: Solids, arteries: tuple[Artery, Artery]) -> None:
    """Dense wedges from behind, and the bony canal round the first part of the artery."""
    apex, size = _both(rng, -1.5, 1.5), _both(rng, 3.2, 4.8)
    for sign, n in ((1, 0), (-1, 1)):
        start: Vector = (sign * (14.5 + apex[n]), -16.5, -10.5)
        solids.rod(BONE, (start, (sign * 40, -36, -8)), (size[n], size[n] + 4), rng.uniform(1300, 1800))
        solids.rod(
            BONE, ((sign * 17, -19, -6.5), (sign * 40, -37, 0)), (size[n] - 1, size[n] + 1), rng.uniform(1300, 1800)
        )
        points = arteries[n].points_mm
        for first in range(4, 24, 5):
            ends = (_vector(points[first]), _vector(points[first + 5]))
            solids.rod(BONE, ends, _same(arteries[n].radius_mm + 1.6), 700)


def _cavernous(rng: np.random.Generator, solids: Solids, arteries: tuple[Artery, Artery]) -> None:
    """Venous blood round the artery between the two genua, with a little fat in it."""
    for artery in arteries:
        blood = rng.uniform(40, 58)
        first, last = round(artery.sites_mm[3] / 0.5), round(artery.sites_mm[6] / 0.5)
        joints = np.linspace(first, last, 6).astype(int)
        for a, b in pairwise(joints):
            solids.rod(
                SOFT, (_vector(artery.points_mm[a]), _vector(artery.points_mm[b])), _same(artery.radius_mm + 1.8), blood
            )
        for _ in range(rng.integers(0, 4)):
            place = artery.points_mm[rng.integers(first, last)] + rng.uniform(-4.5, 4.5, 3)
            solids.ellipsoid(SOFT, _vector(place), _vector(rng.uniform(0.8, 1.8, 3)), rng.uniform(-95, -50))


def _confounders(rng: np.random.Generator, solids: Solids) -> None:
    """Calcium that is not arterial, in about 22 % of patients: ligaments between the clinoids, specks in the dura."""
    if rng.random() > 0.22:
        return
    for sign in (1, -1):
        if rng.random() < 0.5:
            solids.rod(
                SPECK,
                ((sign * 7.5, -12.5, 3), (sign * rng.uniform(12, 16), -18.5, -2)),
                _vector2(rng, 0.4, 1.0),
                rng.uniform(160, 900),
            )
        if rng.random() < 0.25:
            solids.rod(
                SPECK,
                ((sign * 11.5, -1, 5), (sign * rng.uniform(8, 9.5), -8, 4)),
                _vector2(rng, 0.3, 0.7),
                rng.uniform(160, 700),
            )
    for _ in range(rng.integers(1, 4)):
        place: Vector = (rng.uniform(-19, 19), rng.uniform(-20, -8), rng.uniform(2, 15))
        solids.ellipsoid(SPECK, place, _vector(rng.uniform(0.5, 1.6, 3)), rng.uniform(160, 900))


def _same(radius_mm: float) -> tuple[float, float]:
    return radius_mm, radius_mm


def _vector(values: np.ndarray) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


def _vector2(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    return float(rng.uniform(low, high)), float(rng.uniform(low, high))
