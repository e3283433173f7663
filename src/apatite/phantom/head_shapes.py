"""The shapes of a whole head in MNI millimetres, in the order in which they are painted.

Later shapes cover earlier ones: skin, bone, the cavity of the brain, then what stands out of the skull base, then air.
Without randomness the shapes are those of an average, symmetric head.

Source: textbook lengths, set by eye beside a public head-CT template in MNI space (scct) until edges of bone, air and
skin lay within about 5 mm of its; so agreement with that template is no evidence of its own.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from apatite.phantom.shapes import SOFT, Solids, Vector

SIDES = (1.0, -1.0)
"""Signs of x: right, left."""
Cut = tuple[float, float, float]
"""Floor, lower floor, front (MNI z, z, y): a shape is there above the floor; behind the front, above the lower one."""
UNCUT: Cut = (-math.inf, math.inf, -math.inf)
CORTEX_HU, DIPLOE_HU, MARROW_HU, DENSE_HU, THIN_HU = 1150.0, 550.0, 220.0, 1500.0, 750.0
AIR_HU, FAT_HU, MUSCLE_HU, CSF_HU = -1000.0, -95.0, 55.0, 8.0
_VAULT: tuple[tuple[Vector, Vector], ...] = (
    ((0, -17, 0), (74, 97, 92.5)),
    ((18, 20, 4), (44, 60, 62)),
    ((-18, 20, 4), (44, 60, 62)),
    ((28, -40, 14), (48, 54, 69)),
    ((-28, -40, 14), (48, 54, 69)),
)
"""Outer surface of the vault, with the frontal and the parietal eminences: centre and half axes of each ellipsoid."""
_BEFORE, _BEHIND, _FRONT = -22.0, -46.0, 4.0
"""The floor of the fossa in front and of that behind (MNI z); where (MNI y) one goes over into the other."""


@dataclass(kw_only=True, eq=False)
class Canvas:
    """A list of shapes to paint, each with its HU.

    Attributes:
        solids: Their geometry and HU.
        cuts: Where each shape is cut off.
    """

    solids: Solids = field(default_factory=Solids)
    cuts: list[Cut] = field(default_factory=list)

    def ellipsoid(self, hu: float, centre: Vector, radii: Vector, cut: Cut = UNCUT) -> None:
        """Add an ellipsoid, perhaps cut off."""
        self.solids.ellipsoid(SOFT, centre, radii, hu)
        self.cuts.append(cut)

    def box(self, hu: float, centre: Vector, halves: Vector, turn_deg: Vector = (0, 0, 0)) -> None:
        """Add a box with rounded edges."""
        self.solids.box(SOFT, centre, halves, hu, turn_deg)
        self.cuts.append(UNCUT)

    def rods(self, hu: float, points: list[Vector], radii: list[float]) -> None:
        """Add a chain of rods through points, with a radius at each."""
        for n in range(len(points) - 1):
            self.solids.rod(SOFT, (points[n], points[n + 1]), (radii[n], radii[n + 1]), hu)
            self.cuts.append(UNCUT)

    def both(self, hu: float, points: list[Vector], radii: list[float]) -> None:
        """Add a chain of rods on the right and its mirror image."""
        for sign in SIDES:
            self.rods(hu, [(sign * x, y, z) for x, y, z in points], radii)

    def table(self) -> tuple[Float[np.ndarray, "solids columns"], Float[np.ndarray, "solids 6"]]:
        """Rows and bounds; cuts shrink the bounds."""
        rows, bounds = self.solids.table()
        bounds[:, 2] = np.maximum(bounds[:, 2], np.array(self.cuts)[:, :2].min(axis=1))
        return rows, bounds


@dataclass(kw_only=True, eq=False)
class Draws:
    """Values that differ between patients; the middle of their range where there is no randomness."""

    rng: np.random.Generator | None

    def value(self, low: float, high: float) -> float:
        """One value."""
        return (low + high) / 2 if self.rng is None else float(self.rng.uniform(low, high))

    def pair(self, low: float, high: float) -> tuple[float, float]:
        """Right and left: they share most of what is drawn."""
        if self.rng is None:
            return (low + high) / 2, (low + high) / 2
        common, right, left = self.rng.uniform(low, high, 3)
        return float(0.7 * common + 0.3 * right), float(0.7 * common + 0.3 * left)

    def happens(self, probability: float) -> bool:
        """Whether a variant is there; never in an average head."""
        return self.rng is not None and bool(self.rng.random() < probability)


def head_canvas(rng: np.random.Generator | None) -> Canvas:
    """All shapes of one head; of the average head where `rng` is `None`."""
    canvas, draws = Canvas(), Draws(rng=rng)
    _skin(canvas, draws)
    _outer_bone(canvas, draws)
    _facial_bone(canvas, draws)
    _cavity(canvas, draws)
    _brain(canvas, draws)
    _petrous(canvas, draws)
    _sphenoid(canvas)
    _orbits(canvas, draws)
    _sinuses(canvas, draws)
    _neck(canvas, draws)
    if rng is not None:
        # A calcified cyst of the scalp, always on the right: whoever swaps the sides is found out.
        canvas.ellipsoid(300.0, (77.0, -42.0, 24.0), (4.0, 5.0, 4.5))
    return canvas


def _skin(canvas: Canvas, draws: Draws) -> None:
    """Everything soft outside the skull."""
    scalp = draws.value(5, 9)
    for centre, radii in _VAULT:
        canvas.ellipsoid(10.0, centre, (radii[0] + scalp + 1, radii[1] + scalp - 0.5, radii[2] + scalp - 1))
    canvas.ellipsoid(25.0, (0, -24, -52), (82, 94, 92))
    canvas.ellipsoid(15.0, (0, 32, -60), (66, 47, 72))
    canvas.ellipsoid(15.0, (0, 30, -112), (44, 42, 32))
    canvas.rods(40.0, [(0, -40, -60), (0, -45, -200)], [66, 58])
    canvas.rods(20.0, [(0, 76, -38), (0, 92, -62), (0, 84, -74)], [7, 8, 12])
    for sign in SIDES:
        canvas.ellipsoid(0.0, (sign * 80, -34, -45), (6, 14, 24))
        canvas.ellipsoid(FAT_HU, (sign * 42, 48, -76), (14, 16, 16))
        canvas.ellipsoid(MUSCLE_HU, (sign * 64, 14, -36), (9, 24, 32))
        canvas.ellipsoid(MUSCLE_HU, (sign * 55, 12, -88), (9, 18, 24))
        canvas.ellipsoid(MUSCLE_HU, (sign * 32, 12, -68), (14, 12, 14))
        canvas.ellipsoid(FAT_HU, (sign * 46, -8, -76), (8, 8, 10))
        canvas.ellipsoid(MUSCLE_HU, (sign * 26, -82, -92), (22, 22, 34))
    canvas.ellipsoid(MUSCLE_HU, (0, 32, -105), (24, 30, 16))


def _vault(canvas: Canvas, hu: float, inset: Vector, floors_raised_mm: float) -> None:
    """The vault, `inset` smaller along x, y, z, down to the two floors."""
    for centre, radii in _VAULT:
        inner: Vector = (radii[0] - inset[0], radii[1] - inset[1], radii[2] - inset[2])
        canvas.ellipsoid(hu, centre, inner, (_BEFORE + floors_raised_mm, _BEHIND + floors_raised_mm, _FRONT))


def _outer_bone(canvas: Canvas, draws: Draws) -> None:
    """The vault and the fossae as solid bone with marrow inside; the cavity is taken out later."""
    petalia = draws.value(-2, 2)
    table = draws.value(1.6, 2.6)
    for hu, inset in ((CORTEX_HU, 0.0), (DIPLOE_HU, table)):
        _vault(canvas, hu, (inset, inset, inset), inset - 4.0)
        canvas.ellipsoid(hu, (petalia, -54, -33), (64.5 - inset, 49 - inset, 40 - inset))
        for sign in SIDES:
            canvas.ellipsoid(hu, (sign * 40, -4, -32), (28 - inset, 35 - inset, 25 - inset))
    # The rim of the great foramen with the condyles.
    canvas.both(CORTEX_HU, [(6, -27, -66), (20, -38, -69), (19, -56, -72), (0, -70, -70)], [4, 6, 4.5, 4])


def _facial_bone(canvas: Canvas, draws: Draws) -> None:
    """Brow, orbital walls, cheek bones, upper and lower jaw."""
    brow = draws.value(10, 13)
    canvas.ellipsoid(CORTEX_HU, (0, 72, -17), (32, brow, 15))
    canvas.both(CORTEX_HU, [(14, 77, -25), (40, 72, -23), (56, 55, -24), (54, 48, -44)], [4, 4, 4.5, 4.5])
    canvas.both(CORTEX_HU, [(33, 52, -37), (16, 22, -33)], [19.5, 5.5])
    canvas.both(CORTEX_HU, [(54, 48, -44), (52, 50, -58), (34, 64, -58)], [4.5, 6, 3])
    canvas.both(CORTEX_HU, [(54, 48, -60), (66, 28, -62), (69, 4, -56), (64, -8, -52)], [4, 2.6, 2.6, 5])
    canvas.both(CORTEX_HU, [(50, -6, -53), (64, -8, -52)], [4, 4])
    for sign in SIDES:
        canvas.ellipsoid(THIN_HU, (sign * 30, 40, -68), (16.5, 19.5, 18.5))
        canvas.box(CORTEX_HU, (sign * 54, -5, -85), (2.6, 14, 24), (0, 0, sign * 8))
    canvas.both(CORTEX_HU, [(56, -12, -62), (54, -12, -74)], [5, 4])
    canvas.both(CORTEX_HU, [(53, -8, -106), (46, 22, -116), (18, 60, -124), (0, 64, -124)], [6, 6.5, 8, 9])
    canvas.rods(CORTEX_HU, [(0, 73, -25), (0, 82, -45)], [5, 3])
    canvas.box(THIN_HU, (0, 36, -87), (22, 30, 2.2))
    canvas.both(1700.0, [(27, 20, -98), (24, 44, -99), (10, 62, -99), (0, 65, -99)], [4.5, 4.5, 4.5, 4.5])


def _cavity(canvas: Canvas, draws: Draws) -> None:
    """The inside of the skull, filled with fluid."""
    thick = draws.value(-1.0, 1.0)
    _vault(canvas, CORTEX_HU, (3.8 + thick, 6.0 + thick, 5.6 + thick), -2.0)
    _vault(canvas, CSF_HU, (5.4 + thick, 7.8 + thick, 7.4 + thick), 0.0)
    canvas.ellipsoid(CSF_HU, (0, 44, -22), (14, 24, 9))
    canvas.ellipsoid(CSF_HU, (0, -54, -33), (60, 43, 36))
    for sign in SIDES:
        canvas.ellipsoid(CSF_HU, (sign * 40, -4, -32), (25, 32, 22))


def _brain(canvas: Canvas, draws: Draws) -> None:
    """Brain in the cavity, falx, ventricles, the great veins."""
    gap, brain, atrophy = draws.value(1.5, 4.5), draws.value(29, 36), draws.value(0.7, 1.5)
    _vault(canvas, brain, (5.6 + gap, 8.0 + gap, 7.6 + gap), 1.0)
    canvas.ellipsoid(brain, (0, 44, -21), (12, 23, 8))
    canvas.ellipsoid(brain, (0, -56, -33), (59 - gap, 42 - gap, 35 - gap))
    for sign in SIDES:
        canvas.ellipsoid(brain, (sign * 40, -5, -31), (25 - gap, 32 - gap, 22 - gap))
        canvas.ellipsoid(brain - 5, (sign * 28, -10, 26), (22, 55, 26))
        canvas.ellipsoid(CSF_HU + 8, (sign * 44, 6, -6), (11, 18, 2.2 * atrophy))
    canvas.ellipsoid(48.0, (0, -16, 4), (1.2, 87, 80), (8.0, math.inf, -math.inf))
    canvas.ellipsoid(brain, (0, -10, 4), (18, 46, 21))
    canvas.rods(CSF_HU, [(0, -28, 8), (0, -2, -8)], [2.0 * atrophy, 2.0 * atrophy])
    canvas.ellipsoid(CSF_HU, (0, -40, -30), (5 * atrophy, 4 * atrophy, 9))
    canvas.ellipsoid(CSF_HU, (0, -4, -17), (11, 8, 4))
    canvas.rods(brain, [(0, -24, -18), (0, -26, -34), (0, -40, -62)], [14, 12, 7])
    right, left = draws.pair(0.7, 1.5)
    for sign, size in zip(SIDES, (right, left), strict=True):
        horn: list[Vector] = [(sign * 9, 30, 6), (sign * 10, 4, 18), (sign * 16, -28, 17), (sign * 28, -44, 8)]
        canvas.rods(CSF_HU, horn, [4 * size, 4.5 * size, 4.5 * size, 5 * size])
        canvas.rods(CSF_HU, [horn[-1], (sign * 36, -18, -14)], [3 * size, 1.5 * size])
        canvas.rods(55.0, [(0, -104, -6), (sign * 58, -58, -28), (sign * 50, -40, -52)], [3.5, 4, 4])
    vein: list[Vector] = [(0, 60, 46), (0, 20, 77), (0, -30, 82), (0, -80, 56), (0, -103, 0)]
    canvas.rods(55.0, vein, [2.5, 3, 3.5, 4, 4])


def _petrous(canvas: Canvas, draws: Draws) -> None:
    """Pyramids with the dense labyrinth, air of middle ear and mastoid, the ear canal, the inner occipital crest."""
    canvas.rods(CORTEX_HU, [(0, -102, -14), (0, -95, -36), (0, -84, -54), (0, -72, -66)], [3.5, 4.5, 4, 3])
    for sign in SIDES:
        canvas.ellipsoid(CORTEX_HU, (sign * 60, -38, -52), (12, 18, 20))
    canvas.both(CORTEX_HU, [(63, -44, -58), (55, -34, -78)], [9, 5])
    canvas.both(CORTEX_HU, [(18, -13, -46), (38, -25, -45), (60, -36, -46)], [4, 8, 8])
    canvas.both(CORTEX_HU, [(26, -18, -39), (42, -28, -37), (66, -44, -31)], [3, 4.5, 3])
    canvas.both(THIN_HU, [(20, -20, -54), (34, -30, -58), (52, -40, -60)], [5, 6, 6])
    canvas.both(MARROW_HU, [(18, -13, -47), (30, -20, -48)], [2.5, 5])
    canvas.both(MARROW_HU, [(20, -20, -54), (34, -30, -58)], [3.5, 4.5])
    canvas.both(DENSE_HU, [(32, -22, -43), (42, -28, -42)], [6, 6.5])
    canvas.both(AIR_HU, [(50, -22, -48), (58, -26, -51), (86, -30, -54)], [4, 4.5, 4])
    canvas.both(AIR_HU, [(48, -22, -46), (54, -32, -42)], [3.5, 4.5])
    canvas.both(MUSCLE_HU, [(26, -30, -58), (24, -28, -72)], [4.5, 4.5])
    right, left = draws.pair(0.65, 1.1)
    for sign, size in zip(SIDES, (right, left), strict=True):
        if draws.happens(0.08):
            continue
        for y, z, r in ((-34, -46, 6.0), (-42, -50, 6.5), (-38, -58, 6.5), (-46, -60, 5.5), (-40, -68, 4.5)):
            x = sign * (60 - 0.1 * abs(z + 55))
            canvas.ellipsoid(-600.0, (x, y, z), (5.5 * size, r * size, r * size))


def _sphenoid(canvas: Canvas) -> None:
    """Body, clivus, back of the sella, ridges; the finer phantom of the region takes their place where it is used."""
    for hu, inset in ((THIN_HU, 0.0), (MARROW_HU, 1.6)):
        canvas.box(hu, (0, 9, -44), (17 - inset, 17.5 - inset, 12 - inset))
        for x in (0, 6):
            canvas.both(hu, [(x, -10, -36), (1.3 * x, -25, -65)], [4.5 - inset, 5 - inset])
    canvas.rods(CORTEX_HU, [(-6, -11, -30), (6, -11, -30)], [1.8, 1.8])
    canvas.both(THIN_HU, [(4, 22, -29), (12, 14, -24)], [1.5, 1.6])
    canvas.both(CORTEX_HU, [(12, 14, -24), (28, 24, -21), (50, 33, -17), (62, 28, -8)], [1.6, 2.4, 3, 3])
    canvas.both(THIN_HU, [(22, 24, -32), (30, 30, -42), (34, 24, -52)], [3, 3, 3])
    canvas.both(THIN_HU, [(13, 13, -56), (15, 8, -82)], [3, 2.5])
    canvas.ellipsoid(MUSCLE_HU, (0, -3, -29.5), (7, 5.5, 4.5))
    for sign in SIDES:
        canvas.ellipsoid(45.0, (sign * 14, -1, -32), (4.5, 11, 7))


def _orbits(canvas: Canvas, draws: Draws) -> None:
    """Fat, eyeballs, nerves and muscles in front of the apex."""
    open_mm = draws.value(16.5, 18.5)
    canvas.both(FAT_HU, [(33, 60, -37), (16, 23, -33)], [open_mm, 3.5])
    canvas.both(MUSCLE_HU, [(32, 52, -37), (14, 18, -31)], [2.2, 2.0])
    for x, z in ((9, 0), (-9, 0), (0, 9), (0, -9)):
        canvas.both(MUSCLE_HU, [(32 + x, 54, -37 + z), (17, 24, -33)], [2.2, 1.6])
    size = draws.value(11.5, 12.5)
    for sign in SIDES:
        canvas.ellipsoid(15.0, (sign * 32, 63, -38), (size, size, size))
        canvas.ellipsoid(90.0, (sign * 32, 72, -38), (4.2, 2.0, 4.2))
        canvas.ellipsoid(20.0, (sign * 32, 77, -38), (13, 3.5, 12))


def _sinuses(canvas: Canvas, draws: Draws) -> None:
    """Air: frontal, ethmoid, sphenoid and maxillary sinuses, nose and throat."""
    frontal, maxillary = draws.pair(0.4, 1.3), draws.pair(0.8, 1.05)
    shift = draws.value(-2.5, 2.5)
    for n, sign in enumerate(SIDES):
        size = frontal[n]
        canvas.ellipsoid(AIR_HU, (sign * 11, 76, -18), (12 * size, 5.2, 11 * size))
        size = maxillary[n]
        canvas.ellipsoid(AIR_HU, (sign * 30, 40, -68), (15 * size, 18 * size, 17 * size))
        canvas.box(-800.0, (sign * 7.5, 41, -43), (5, 22, 11))
        canvas.ellipsoid(AIR_HU, (shift + sign * 8, 8, -45), (9, 14, 9.5))
        canvas.ellipsoid(AIR_HU, (shift + sign * 6, 18, -38.5), (7, 9, 8))
        canvas.box(-650.0, (sign * 6.5, 38, -67), (5, 31, 15))
        for height in (-62.0, -76.0):
            canvas.rods(45.0, [(sign * 8, 20, height), (sign * 8, 56, height)], [2.6, 2.6])
    canvas.box(0.0, (shift / 2, 42, -50), (0.8, 26, 18))
    canvas.box(THIN_HU, (shift - 2, 9, -43), (0.5, 15, 11))
    for y in (30.0, 44.0, 57.0):
        canvas.box(200.0, (0, y, -43), (12, 0.7, 11))
    canvas.rods(AIR_HU, [(0, 10, -66), (0, 2, -80), (0, -6, -200)], [6, 6, 7])


def _neck(canvas: Canvas, draws: Draws) -> None:
    """The canal with the cord, the first two vertebrae."""
    lean = draws.value(-3, 3)
    canvas.both(CORTEX_HU, [(0, -21, -86), (20, -36, -84), (16, -62, -88), (0, -72, -88)], [4, 8, 4, 4.5])
    canvas.rods(CORTEX_HU, [(0, -30, -76), (0, -32 + lean / 3, -98)], [5, 7])
    canvas.rods(DIPLOE_HU, [(0, -32, -104), (0, -34 + lean, -200)], [11, 11])
    canvas.both(CORTEX_HU, [(14, -44, -102), (0, -74 + lean / 2, -106)], [5, 5])
    canvas.rods(CSF_HU, [(0, -48, -60), (0, -52 + lean, -200)], [12.5, 10])
    canvas.rods(38.0, [(0, -44, -56), (0, -51 + lean, -200)], [6, 5.5])
