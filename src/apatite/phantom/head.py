"""A whole head: painted shapes on a regular grid, with the finely drawn region round the sella set into it.

Two frames. MNI millimetres, in which the shapes are stated; and the head's own millimetres, in which the origin lies
in the middle of the carotid box (MNI 0, 4, -27.5) and MNI is scaled to the size of a real head. The region phantom
(`phantom-1`) has the same origin and real millimetres, so it fits as it is.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.volume import Grid, Volume
from apatite.phantom.cohort import CohortConfig, Patient, draw_patient
from apatite.phantom.density import Tissue, fill_tissue
from apatite.phantom.head_shapes import Canvas, head_canvas
from apatite.phantom.shapes import ELLIPSOID, KIND, signed_distance

VERSION = "head-1"
"""Changes whenever a head changes."""
ORIGIN_MNI_MM = np.array([0.0, 4.0, -27.5])
"""Origin of the head's own frame: the middle of the box of the carotids."""
LOW_MNI_MM, HIGH_MNI_MM = np.array([-90.0, -126.0, -72.0]), np.array([90.0, 90.0, 108.0])
"""Corners of the usual MNI grid: 181 × 217 × 181 mm with its voxels."""
NECK_MM = 60.0
"""How much of the neck a head has below the MNI grid."""
REAL_SIZE = 0.92
"""An adult head over MNI's, which is larger than real ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """One head.

    Attributes:
        coarse_hu: The whole head on a grid in the head's own frame (mm).
        scale: Head's own millimetres per MNI millimetre along x, y, z.
        patient: The calcium and the anatomy of the region.
        tissue: That region on its fine grid; same origin and axes.
    """

    coarse_hu: Volume
    scale: Float[np.ndarray, "3"]
    patient: Patient
    tissue: Tissue

    def to_head(self, points_mni_mm: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """From MNI to the head's own frame."""
        return (points_mni_mm - ORIGIN_MNI_MM) * self.scale


def draw_head(config: CohortConfig, number: int, step_mm: float = 1.0, region_step_mm: float = 0.5) -> Head:
    """Draw the head of one patient of a cohort; a function of seed, prevalence and number alone.

    Args:
        config: The cohort; the calcium is that of its patient.
        number: Which patient.
        step_mm: Edge of a voxel of the whole head.
        region_step_mm: The same of the region round the sella.
    """
    patient = draw_patient(config, number)
    rng = generator(config.seed, VERSION, "head", number)
    scale = REAL_SIZE * rng.uniform(0.95, 1.05) * rng.uniform(0.97, 1.03, 3)
    low = LOW_MNI_MM - np.array([8.0, 4.0, NECK_MM])
    return Head(
        coarse_hu=painted(head_canvas(rng), step_mm, scale, (low, HIGH_MNI_MM + np.array([8.0, 16.0, 2.0]))),
        scale=scale,
        patient=patient,
        tissue=fill_tissue(patient.anatomy, region_step_mm),
    )


def procedural_template(step_mm: float = 2.0) -> Volume:
    """An average head in HU on a grid of MNI millimetres, for registration where no template is given.

    Nothing is drawn: it is symmetric and holds no arterial calcium.

    Args:
        step_mm: Edge of a voxel.
    """
    head = painted(head_canvas(None), step_mm, np.ones(3), (LOW_MNI_MM, HIGH_MNI_MM))
    affine = head.grid.ijk_to_ras.copy()
    affine[:3, 3] += ORIGIN_MNI_MM
    return Volume(voxels=head.voxels, grid=Grid(shape=head.grid.shape, ijk_to_ras=affine))


def painted(
    canvas: Canvas,
    step_mm: float,
    scale: Float[np.ndarray, "3"],
    corners_mni_mm: tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]],
) -> Volume:
    """Paint shapes on a grid in the head's own frame; the rest is air.

    Args:
        canvas: Shapes in MNI mm, painted in order.
        step_mm: Edge of a voxel.
        scale: Head's own mm per MNI mm.
        corners_mni_mm: Centres of the first and (about) the last voxel.
    """
    if not 0.25 <= step_mm <= 8.0:
        raise ConfigError(f"a step of {step_mm} mm cannot show a head", fix="use 0.25 to 8 mm")
    low = (corners_mni_mm[0] - ORIGIN_MNI_MM) * scale
    high = (corners_mni_mm[1] - ORIGIN_MNI_MM) * scale
    width, height, depth = (int(n) for n in np.floor((high - low) / step_mm + 1e-6) + 1)
    voxels = np.full((depth, height, width), -1000.0, dtype=np.float32)
    rows, bounds = canvas.table()
    # First voxel and steps in MNI mm: the shapes are evaluated there.
    _paint(voxels, rows, bounds, np.array(canvas.cuts), low / scale + ORIGIN_MNI_MM, step_mm / scale)
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = low
    return Volume(voxels=voxels, grid=Grid(shape=(depth, height, width), ijk_to_ras=affine))


@njit(cache=True, error_model="numpy")
@no_type_check
def _paint(voxels, solids, bounds, cuts, first, steps):
    """Every shape within its bounds, over what is there; a voxel at its surface takes a share."""
    depth, height, width = voxels.shape
    edge = (steps[0] + steps[1] + steps[2]) / 3
    for s in range(solids.shape[0]):
        hu = solids[s, 2]
        i0, i1 = _span(bounds[s, 0], bounds[s, 3], first[0], steps[0], width)
        j0, j1 = _span(bounds[s, 1], bounds[s, 4], first[1], steps[1], height)
        k0, k1 = _span(bounds[s, 2], bounds[s, 5], first[2], steps[2], depth)
        # Far inside or outside an ellipsoid (none of them is turned) its level decides, without the distance.
        is_ellipsoid = solids[s, KIND] == ELLIPSOID
        room = edge / min(solids[s, 6], solids[s, 7], solids[s, 8]) if is_ellipsoid else 0.0
        outside = (1.0 + room) ** 2
        for k in range(k0, k1):
            z = first[2] + k * steps[2]
            for j in range(j0, j1):
                y = first[1] + j * steps[1]
                cut = min(cuts[s, 0] - z, max(cuts[s, 1] - z, y - cuts[s, 2]))
                level = ((y - solids[s, 4]) / solids[s, 7]) ** 2 + ((z - solids[s, 5]) / solids[s, 8]) ** 2
                if cut > edge or (is_ellipsoid and level > outside):
                    continue
                inside = (1.0 - room) ** 2 - level if is_ellipsoid and room < 1.0 and cut < -edge else -1.0
                for i in range(i0, i1):
                    x = first[0] + i * steps[0]
                    if ((x - solids[s, 3]) / solids[s, 6]) ** 2 < inside:
                        voxels[k, j, i] = hu
                        continue
                    share = 0.5 - max(signed_distance(solids, s, x, y, z), cut) / edge
                    if share >= 1.0:
                        voxels[k, j, i] = hu
                    elif share > 0.0:
                        voxels[k, j, i] += np.float32(share * (hu - voxels[k, j, i]))


@njit(cache=True, error_model="numpy")
@no_type_check
def _span(low, high, first, step, count):
    """Voxels between two positions, one more on either side."""
    start, stop = int(np.floor((low - first) / step)), int(np.ceil((high - first) / step)) + 1
    return min(max(start, 0), count), min(max(stop, 0), count)
