"""Features of how calcium lies in the arterial wall, after two visual scores. Unvalidated: no reader was compared.

Per slice and side: how far calcium reaches around the lumen, how thick it is, and whether it is unbroken. From them,
features *like* those of published visual scores. Their cut-points were never fitted to readers, so every output
says `validated: False`, and none of it belongs in a result that is not about these features themselves.

Source: the modified Woodcock score (Subedi et al. 2015), grades 0 to 3 per slice, summed; circularity, thickness and
morphology after Kockelkoren et al. 2017 (AJNR).
Differs: readers judge by eye. Here the lumen is a circle fitted to the calcium where none is given, thickness is the
largest inscribed circle, and continuous means an unbroken arc of 180°. Kockelkoren's points are not given.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, optimize

from apatite.calcium.lesions import IsMarked, label_islands
from apatite.core.scan import SliceStack

VALIDATED = False
"""Of everything in this file."""
THICK_MM = 1.5
CONTINUOUS_DEG = 180.0
LUMEN_RADIUS_MM = (1.0, 4.0)
"""A fitted circle of another radius is no lumen of a carotid artery."""
LEAST_FIT_DEG = 60.0
"""A shorter arc does not say where its centre is."""

_BINS = 720
_FINER = 4
_MOST_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class WallSlice:
    """Calcium around one lumen in one slice; unvalidated.

    Attributes:
        slice_index: Which slice.
        arc_deg: Angle around the lumen that calcium covers, all islands together; `None` without a lumen.
        longest_arc_deg: Its longest unbroken part; `None` without a lumen.
        thickness_mm: Diameter of the largest circle that fits into the calcium.
        num_islands: 8-connected.
    """

    slice_index: int
    arc_deg: float | None
    longest_arc_deg: float | None
    thickness_mm: float
    num_islands: int

    @property
    def is_thick(self) -> bool:
        """At least 1.5 mm."""
        return self.thickness_mm >= THICK_MM

    @property
    def is_continuous(self) -> bool:
        """An unbroken arc of at least 180°."""
        return self.longest_arc_deg is not None and self.longest_arc_deg >= CONTINUOUS_DEG

    @property
    def woodcock_like_unvalidated(self) -> int:
        """1 thin and broken, 2 one of thick and continuous, 3 both; a slice without calcium is not listed."""
        return 1 + self.is_thick + self.is_continuous


@dataclass(frozen=True, kw_only=True)
class Wall:
    """Calcium in the wall of one artery; unvalidated.

    Attributes:
        slices: Those with calcium, in order.
    """

    slices: tuple[WallSlice, ...]

    @property
    def woodcock_like_unvalidated(self) -> int:
        """Sum of the slices' grades."""
        return sum(part.woodcock_like_unvalidated for part in self.slices)

    @property
    def circularity_like_unvalidated(self) -> str:
        """`absent`, `dots`, `<90`, `90-270` or `270-360` degrees, in the slice where calcium reaches furthest."""
        if not self.slices:
            return "absent"
        arcs = [part.arc_deg for part in self.slices if part.arc_deg is not None]
        if not arcs:
            return "dots"
        return "<90" if max(arcs) < 90 else "90-270" if max(arcs) < 270 else "270-360"

    @property
    def thickness_like_unvalidated(self) -> str:
        """`absent`, `>=1.5 mm` or `<1.5 mm`, in the thickest slice."""
        if not self.slices:
            return "absent"
        return ">=1.5 mm" if any(part.is_thick for part in self.slices) else "<1.5 mm"

    @property
    def morphology_like_unvalidated(self) -> str:
        """`indistinguishable` in fewer than two slices; `continuous` where each has one island; else `irregular`."""
        if len(self.slices) < 2:
            return "indistinguishable"
        first, last = self.slices[0].slice_index, self.slices[-1].slice_index
        is_unbroken = len(self.slices) == last - first + 1 and all(part.num_islands == 1 for part in self.slices)
        return "continuous" if is_unbroken else "irregular"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON; says that they are not validated."""
        return {
            "validated": VALIDATED,
            "woodcock_like_unvalidated": self.woodcock_like_unvalidated,
            "circularity_like_unvalidated": self.circularity_like_unvalidated,
            "thickness_like_unvalidated": self.thickness_like_unvalidated,
            "morphology_like_unvalidated": self.morphology_like_unvalidated,
            "slices": [asdict(part) for part in self.slices],
        }


def describe_wall(
    is_calcium: IsMarked, stack: SliceStack, lumens: Mapping[int, tuple[float, float]] | None = None
) -> Wall:
    """Describe the calcium of one artery; both sides in one call would be one meaningless artery.

    Args:
        is_calcium: What counts as calcium, of one side.
        stack: Its slices.
        lumens: Centre (row, column) of the lumen by slice. Where it is missing, a circle is fitted to the calcium;
            where none fits, there are no arcs.
    """
    spacing_mm = (stack.row_spacing_mm, stack.column_spacing_mm)
    found = []
    for k in np.flatnonzero(is_calcium.any(axis=(1, 2))).tolist():
        lumen = (lumens or {}).get(k) or fit_lumen(is_calcium[k], spacing_mm)
        covered = None if lumen is None else _covered(is_calcium[k], lumen, spacing_mm)
        part = WallSlice(
            slice_index=k,
            arc_deg=None if covered is None else float(covered.mean() * 360),
            longest_arc_deg=None if covered is None else _longest_deg(covered),
            thickness_mm=thickness_mm(is_calcium[k], spacing_mm),
            num_islands=label_islands(is_calcium[k : k + 1])[1],
        )
        found.append(part)
    return Wall(slices=tuple(found))


def fit_lumen(
    is_calcium: Bool[np.ndarray, "rows columns"], spacing_mm: tuple[float, float]
) -> tuple[float, float] | None:
    """Centre (row, column) of the circle that fits the calcium of a slice best.

    `None` where there is no such circle: fewer than three pixels, a radius that no carotid artery has, or an arc too
    short to say where its centre is.

    Source: Kåsa 1976 (squared radii, linear) for where to begin; then least squares of the distances to the circle,
    because Kåsa's circles are too small where the arc is short and thick.
    """
    points_mm = np.argwhere(is_calcium) * np.array(spacing_mm)
    begin_mm = _fit_linearly(points_mm)
    if begin_mm is None:
        return None
    fitted = optimize.least_squares(
        lambda circle: np.linalg.norm(points_mm - circle[:2], axis=1) - circle[2], begin_mm, max_nfev=_MOST_STEPS
    ).x
    lumen = (float(fitted[0] / spacing_mm[0]), float(fitted[1] / spacing_mm[1]))
    if not LUMEN_RADIUS_MM[0] <= fitted[2] <= LUMEN_RADIUS_MM[1]:
        return None
    return lumen if _covered(is_calcium, lumen, spacing_mm).mean() * 360 >= LEAST_FIT_DEG else None


def _fit_linearly(points_mm: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "3"] | None:
    """Centre and radius in mm; `None` for fewer than three points, or points on a line."""
    if len(points_mm) < 3:
        return None
    middle = points_mm.mean(axis=0)
    offsets = points_mm - middle
    design = np.column_stack([2 * offsets, np.ones(len(offsets))])
    solution, _, rank, _ = np.linalg.lstsq(design, np.sum(offsets**2, axis=1), rcond=1e-9)
    if rank < 3:
        return None
    radius_mm = np.sqrt(max(solution[2] + solution[0] ** 2 + solution[1] ** 2, 0.0))
    return np.array([*(solution[:2] + middle), radius_mm])


def thickness_mm(is_calcium: Bool[np.ndarray, "rows columns"], spacing_mm: tuple[float, float]) -> float:
    """Diameter of the largest circle that fits into the calcium of a slice; 0 without any."""
    if not is_calcium.any():
        return 0.0
    rows, columns = np.flatnonzero(is_calcium.any(axis=1)), np.flatnonzero(is_calcium.any(axis=0))
    cut = np.pad(is_calcium[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    # Finer pixels, an even number of them, so that a stroke of n pixels is n pixels thick and not n - 1 or n + 1.
    finer = np.kron(cut, np.ones((_FINER, _FINER), dtype=bool))
    sampling = [edge / _FINER for edge in spacing_mm]
    return 2 * float(np.max(np.asarray(ndimage.distance_transform_edt(finer, sampling=sampling))))


def _covered(
    is_calcium: Bool[np.ndarray, "rows columns"], lumen: tuple[float, float], spacing_mm: tuple[float, float]
) -> Bool[np.ndarray, "bins"]:
    """Which directions from the lumen meet calcium; a pixel covers the angle under which it is seen."""
    offsets_mm = (np.argwhere(is_calcium) - np.array(lumen)) * np.array(spacing_mm)
    distance_mm = np.linalg.norm(offsets_mm, axis=1)
    half_mm = float(np.mean(spacing_mm)) / 2
    if np.any(distance_mm <= half_mm):
        return np.ones(_BINS, dtype=bool)
    angle = np.arctan2(offsets_mm[:, 0], offsets_mm[:, 1])
    half = np.arcsin(half_mm / distance_mm)
    return _union((angle - half) % (2 * np.pi), 2 * half)


def _union(starts: Float[np.ndarray, "arcs"], lengths: Float[np.ndarray, "arcs"]) -> Bool[np.ndarray, "bins"]:
    """The bins of a full turn that any of the arcs covers."""
    covered = np.zeros(_BINS, dtype=bool)
    for start, length in zip(starts * _BINS / (2 * np.pi), lengths * _BINS / (2 * np.pi), strict=True):
        covered[np.arange(round(start), round(start + length)) % _BINS] = True
    return covered


def _longest_deg(covered: Bool[np.ndarray, "bins"]) -> float:
    """Longest unbroken run of bins around the turn."""
    if covered.all():
        return 360.0
    turned = np.roll(covered, -int(np.argmin(covered)))  # begins with a gap
    ends = np.flatnonzero(np.diff(np.concatenate([turned, [False]]).astype(np.int8)) == -1)
    begins = np.flatnonzero(np.diff(np.concatenate([[False], turned]).astype(np.int8)) == 1)
    return float((ends - begins + 1).max(initial=0) * 360 / _BINS)
