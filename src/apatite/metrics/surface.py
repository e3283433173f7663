"""How far apart two surfaces lie, in mm and on the original slices: surface Dice at a tolerance, mean, 95 %.

A set's surface is the faces between its voxels and the rest. A voxel is the box that its pixel sweeps between the
planes halfway to the neighbouring slices, so tilt shears the boxes and uneven spacing makes them unequally tall. With
S_A the faces of A, |.| their area and B^τ all that lies within τ of B's surface,

    surface Dice = (|S_A ∩ B^τ| + |S_B ∩ A^τ|) / (|S_A| + |S_B|)

Distances run from the middle of a face to the nearest of the middles, edges' middles and corners of the other set's
faces. On slices that are not sheared that is the exact distance to the other surface.

Source: Nikolov et al. 2018 (arXiv 1809.04430), section "Performance metrics".
Differs: surface elements are the faces of voxels, not marching-cubes elements, so each lies where the labels change.
HD95 is the larger of both directions, as MONAI's; medpy pools both before it takes the percentile.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from apatite.core.scan import SliceStack
from apatite.metrics.lesion import box_of

TOLERANCE_MM: Final = 1.0
"""About two pixels of a head CT: what two readers differ by."""

_ROUNDING_MM: Final = 1e-6
"""A shift of exactly the tolerance lies within it, whatever the last bit of a sheared coordinate says."""

Marked = Bool[np.ndarray, "slices rows columns"]
Places = Int[np.ndarray, "_ 3"]
"""On the half-voxel lattice: voxel k is at 2k + 1, its lower face at 2k."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceDistances:
    """Every face of two sets, with its area and its distance to the other set's surface.

    Attributes:
        predicted_mm2: Area of each face of the prediction.
        to_reference_mm: Its distance to the reference's surface; infinite where that is empty or beyond `most_mm`.
        reference_mm2: Area of each face of the reference.
        to_predicted_mm: Its distance to the prediction's surface.
    """

    predicted_mm2: Float[np.ndarray, "predicted"]
    to_reference_mm: Float[np.ndarray, "predicted"]
    reference_mm2: Float[np.ndarray, "reference"]
    to_predicted_mm: Float[np.ndarray, "reference"]

    def dice(self, tolerance_mm: float = TOLERANCE_MM) -> float:
        """Share of both surfaces within the tolerance of the other; nan when both sets are empty, 0 when one is."""
        area_mm2, distance_mm = self._both()
        near_mm2 = area_mm2[distance_mm <= tolerance_mm + _ROUNDING_MM].sum()
        return float(near_mm2 / area_mm2.sum()) if area_mm2.size else float("nan")

    def mean_mm(self) -> float:
        """Mean distance over the area of both surfaces; nan when both sets are empty, infinite when one is."""
        area_mm2, distance_mm = self._both()
        return float((area_mm2 * distance_mm).sum() / area_mm2.sum()) if area_mm2.size else float("nan")

    def percentile_mm(self, share: float = 0.95) -> float:
        """The larger of both directions' distances within which `share` of the area lies; nan, infinite as the mean.

        At 0.95 that is HD95, the 95th percentile of the Hausdorff distance.
        """
        if not len(self.predicted_mm2) + len(self.reference_mm2):
            return float("nan")
        if not len(self.predicted_mm2) or not len(self.reference_mm2):
            return float("inf")
        sides = (self.predicted_mm2, self.to_reference_mm), (self.reference_mm2, self.to_predicted_mm)
        return max(_weighted_quantile(distance_mm, area_mm2, share) for area_mm2, distance_mm in sides)

    def _both(self) -> tuple[Float[np.ndarray, "faces"], Float[np.ndarray, "faces"]]:
        area_mm2 = np.concatenate([self.predicted_mm2, self.reference_mm2])
        return area_mm2, np.concatenate([self.to_reference_mm, self.to_predicted_mm])


def surface_dice(
    is_predicted: Marked, is_reference: Marked, stack: SliceStack, tolerance_mm: float = TOLERANCE_MM
) -> float:
    """Surface Dice of two sets on the same slices.

    Args:
        is_predicted: True where the prediction is.
        is_reference: True where the reference is.
        stack: Where the slices lie.
        tolerance_mm: Surfaces within this distance agree.

    Returns:
        Between 0 and 1; nan when both sets are empty, 0 when one is.

    Raises:
        ValueError: a set does not fit the slices.
    """
    return surface_distances(is_predicted, is_reference, stack, most_mm=tolerance_mm).dice(tolerance_mm)


def surface_distances(
    is_predicted: Marked, is_reference: Marked, stack: SliceStack, most_mm: float = np.inf
) -> SurfaceDistances:
    """All faces of two sets, and how far each lies from the other set.

    Args:
        is_predicted: True where the prediction is.
        is_reference: True where the reference is.
        stack: Where the slices lie.
        most_mm: Larger distances are not looked for; they are infinite.

    Raises:
        ValueError: a set does not fit the slices.
    """
    for is_marked in (is_predicted, is_reference):
        if is_marked.shape != stack.shape:
            raise ValueError(f"marked voxels {is_marked.shape} do not fit the slices {stack.shape}")
    box = box_of(is_predicted | is_reference)
    lattice = _Lattice(stack)
    predicted, reference = (_faces(is_marked[box], box) for is_marked in (is_predicted, is_reference))
    return SurfaceDistances(
        predicted_mm2=lattice.area_mm2(predicted),
        to_reference_mm=_distance_mm(predicted, reference, lattice, most_mm),
        reference_mm2=lattice.area_mm2(reference),
        to_predicted_mm=_distance_mm(reference, predicted, lattice, most_mm),
    )


def span_mm(is_marked: Marked, stack: SliceStack) -> float:
    """The largest distance between two points of the box of rows, columns and slices around the marked voxels.

    No two surfaces inside that box are further apart, so it stands for the distance to a surface that is not there:
    finding nothing is never nearer than finding something at a wrong place.

    Args:
        is_marked: True in the region; at least one voxel.
        stack: Where the slices lie.

    Raises:
        ValueError: the region does not fit the slices, or is empty.
    """
    if is_marked.shape != stack.shape or not is_marked.any():
        raise ValueError(f"a region of {is_marked.sum()} voxels of {is_marked.shape} has no span on {stack.shape}")
    lattice = _Lattice(stack)
    ends = [(2 * edge.start, 2 * edge.stop) for edge in box_of(is_marked)]
    planes = np.arange(ends[0][0], ends[0][1] + 1, 2)
    columns = [lattice.points_ras_mm(np.array([(plane, *corner) for plane in planes])) for corner in product(*ends[1:])]
    # Slices need not lie on a straight line, so the corners of every plane are asked.
    return max(float(cdist(one, other).max()) for one, other in combinations_with_replacement(columns, 2))


class _Lattice:
    """Where the half-voxel lattice of a stack lies in the patient."""

    def __init__(self, stack: SliceStack) -> None:
        borders = _borders_ras_mm(stack)
        self.shape = tuple(2 * count + 1 for count in stack.shape)
        self.planes_ras_mm = np.empty((self.shape[0], 3))
        self.planes_ras_mm[::2] = borders
        self.planes_ras_mm[1::2] = (borders[:-1] + borders[1:]) / 2
        self.half_steps_ras_mm = np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm]) / 2
        height = np.diff(borders, axis=0)
        self._row_face_mm2 = np.linalg.norm(np.cross(stack.column_step_ras_mm, height), axis=1)
        self._column_face_mm2 = np.linalg.norm(np.cross(stack.row_step_ras_mm, height), axis=1)
        self._slice_face_mm2 = stack.pixel_mm2

    def points_ras_mm(self, places: Places) -> Float[np.ndarray, "places 3"]:
        """Pixel (0, 0) of slice k is place (2k + 1, 1, 1)."""
        return self.planes_ras_mm[places[:, 0]] + (places[:, 1:] - 1.0) @ self.half_steps_ras_mm

    def area_mm2(self, faces: Places) -> Float[np.ndarray, "places"]:
        """Of faces, by the axis along which their place is even."""
        slices = np.minimum(faces[:, 0] // 2, len(self._row_face_mm2) - 1)
        is_row_face = faces[:, 1] % 2 == 0
        side_mm2 = np.where(is_row_face, self._row_face_mm2[slices], self._column_face_mm2[slices])
        return np.where(faces[:, 0] % 2 == 0, self._slice_face_mm2, side_mm2)

    def codes(self, places: Places) -> Int[np.ndarray, "places"]:
        """One number per place."""
        _, rows, columns = self.shape
        return (places[:, 0] * rows + places[:, 1]) * columns + places[:, 2]

    def places(self, codes: Int[np.ndarray, "places"]) -> Places:
        """Inverse of `codes`."""
        _, rows, columns = self.shape
        return np.stack([codes // (rows * columns), codes // columns % rows, codes % columns], axis=1)


def _borders_ras_mm(stack: SliceStack) -> Float[np.ndarray, "borders 3"]:
    """In-plane origin at the planes between the slices, and half a thickness beyond the first and the last."""
    origins = stack.origins_ras_mm
    first, last = stack.thickness_mm[0] / 2, stack.thickness_mm[-1] / 2
    if len(origins) == 1:
        return np.stack([origins[0] - first * stack.normal_ras, origins[0] + last * stack.normal_ras])
    steps = np.diff(origins, axis=0)
    per_mm = steps / (steps @ stack.normal_ras)[:, None]
    return np.concatenate(
        [origins[:1] - first * per_mm[:1], (origins[:-1] + origins[1:]) / 2, origins[-1:] + last * per_mm[-1:]]
    )


def _faces(is_marked: Marked, box: tuple[slice, ...]) -> Places:
    """Middles of all faces between marked voxels and the rest; beyond the box nothing is marked."""
    padded = np.pad(is_marked, 1)
    found = []
    for axis in range(3):
        others = tuple(slice(None) if other == axis else slice(1, -1) for other in range(3))
        faces = 2 * np.argwhere(np.diff(padded, axis=axis)[others]) + 1
        faces[:, axis] -= 1
        found.append(faces)
    corner = np.array([2 * edge.start for edge in box])
    return np.concatenate(found).astype(np.int64) + corner


def _distance_mm(faces: Places, others: Places, lattice: _Lattice, most_mm: float) -> Float[np.ndarray, "faces"]:
    """From the middle of each face to the surface that the other faces make up."""
    distance_mm = np.full(len(faces), np.inf)
    if not len(faces) or not len(others):
        return distance_mm
    targets = _distinct(lattice.codes(_with_edges(others)))
    is_shared = np.isin(lattice.codes(faces), targets, assume_unique=True)
    distance_mm[is_shared] = 0.0
    if not is_shared.all():
        points = lattice.points_ras_mm(faces[~is_shared])
        near = _near(lattice.points_ras_mm(lattice.places(targets)), points, most_mm)
        if len(near):
            # An unbalanced tree is built in half the time, and is asked only once.
            tree = KDTree(near, balanced_tree=False, compact_nodes=False)
            distance_mm[~is_shared] = tree.query(points, distance_upper_bound=most_mm + 2 * _ROUNDING_MM)[0]
    return distance_mm


def _with_edges(faces: Places) -> Places:
    """The middles of faces, and with each its four corners and the middles of its four edges."""
    of_axes = [faces[faces[:, axis] % 2 == 0] for axis in range(3)]
    steps = list(product((-1, 0, 1), repeat=2))
    return np.concatenate([of_axes[axis] + np.insert(step, axis, 0) for axis in range(3) for step in steps])


def _distinct(codes: Int[np.ndarray, "_"]) -> Int[np.ndarray, "_"]:
    """Each number once, ascending; of millions far faster than `np.unique`, which hashes them."""
    ordered = np.sort(codes)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]


def _near(
    targets: Float[np.ndarray, "targets 3"], points: Float[np.ndarray, "points 3"], most_mm: float
) -> Float[np.ndarray, "near 3"]:
    """The targets that can be within `most_mm` of any point."""
    reach_mm = most_mm + 1.0
    is_near = (targets >= points.min(axis=0) - reach_mm) & (targets <= points.max(axis=0) + reach_mm)
    return targets[is_near.all(axis=1)]


def _weighted_quantile(values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"], share: float) -> float:
    """The least value up to which at least `share` of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))])
