"""A small head of a few ellipsoids for testing readers: nothing in it is symmetric, and everything is known exactly.

Only the lesion reaches 130 HU, so what a reader finds above that is the lesion: its place, side, volume and HU tell
whether geometry and rescale were understood.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from apatite.core.scan import Scan, SliceStack
from apatite.phantom.shapes import Vector

TISSUE_HU, LESION_HU = 40, 500

_LESION: Final[tuple[Vector, Vector]] = ((-30.0, 10.0, 10.0), (15.0, 12.0, 14.0))
_MARKERS: Final[dict[str, tuple[Vector, Vector, int]]] = {
    "head": ((0, 0, 0), (80, 92, 75), TISSUE_HU),
    "right": ((52, 4, -14), (11, 14, 9), -1000),
    "front": ((6, 68, 4), (14, 11, 17), -100),
    "top": ((-4, -22, 44), (24, 19, 9), 0),
    "bottom": ((9, -48, -42), (17, 21, 8), 90),
}
"""Name → centre and half axes (RAS mm), HU; the head, then what is drawn into it."""


@dataclass(frozen=True, kw_only=True)
class FaultTruth:
    """What a reader must find.

    Attributes:
        centroid_ras_mm: Of the lesion.
        volume_mm3: Of the lesion, by the formula of the ellipsoid.
        side: On which side of the patient it lies.
        lesion_hu, tissue_hu: HU inside and around it.
        markers_ras_mm: Middles of the markers that say where right, front, top and bottom are.
        markers_hu: Their HU.
    """

    centroid_ras_mm: Vector
    volume_mm3: float
    side: str
    lesion_hu: int
    tissue_hu: int
    markers_ras_mm: dict[str, Vector]
    markers_hu: dict[str, int]


def fault_stack(
    shape: tuple[int, int, int] = (24, 64, 64),
    spacing_mm: tuple[float, float] = (3.0, 3.0),
    step_mm: float = 5.0,
    tilt_deg: float = 0.0,
) -> SliceStack:
    """Even slices round the origin: columns to the left, rows to the back, slices upwards.

    Args:
        shape: Slices, rows, columns.
        spacing_mm: Between rows, between columns.
        step_mm: Between slices along their normal; also their thickness.
        tilt_deg: Of the gantry: the slices turn about x, the table goes straight on.
    """
    tilt = math.radians(tilt_deg)
    row_step = np.array([0.0, -math.cos(tilt), -math.sin(tilt)]) * spacing_mm[0]
    column_step = np.array([-spacing_mm[1], 0.0, 0.0])
    height = (np.arange(shape[0]) - (shape[0] - 1) / 2) * step_mm / math.cos(tilt)
    corner = -row_step * (shape[1] - 1) / 2 - column_step * (shape[2] - 1) / 2
    return SliceStack(
        shape=shape,
        origins_ras_mm=corner + height[:, None] * np.array([0.0, 0.0, 1.0]),
        column_step_ras_mm=column_step,
        row_step_ras_mm=row_step,
        thickness_mm=np.full(shape[0], step_mm),
    )


def fault_phantom(stack: SliceStack | None = None, shift_mm: Vector = (0.0, 0.0, 0.0)) -> tuple[Scan, FaultTruth]:
    """The phantom on any slices, without noise, each pixel read at its middle.

    Args:
        stack: Where the slices lie; `fault_stack()` where not given.
        shift_mm: Moves the phantom in the patient.
    """
    stack = stack or fault_stack()
    shift = np.array(shift_mm)
    voxels = np.full(stack.shape, -1000, dtype=np.int16)
    pixels = np.moveaxis(np.indices(stack.shape[1:], dtype=float), 0, -1)
    for index in range(stack.shape[0]):
        points = stack.to_ras(index, pixels) - shift
        for centre, radii, hu in _MARKERS.values():
            voxels[index][_is_inside(points, centre, radii)] = hu
        voxels[index][_is_inside(points, *_LESION)] = LESION_HU
    centre, radii = _LESION
    truth = FaultTruth(
        centroid_ras_mm=_moved(centre, shift_mm),
        volume_mm3=4 / 3 * math.pi * math.prod(radii),
        side="right" if centre[0] > 0 else "left",
        lesion_hu=LESION_HU,
        tissue_hu=TISSUE_HU,
        markers_ras_mm={name: _moved(middle, shift_mm) for name, (middle, _, _) in _MARKERS.items() if name != "head"},
        markers_hu={name: hu for name, (_, _, hu) in _MARKERS.items() if name != "head"},
    )
    return Scan(voxels_hu=voxels, stack=stack), truth


def _is_inside(points: Float[np.ndarray, "rows columns 3"], centre: Vector, radii: Vector) -> np.ndarray:
    return (((points - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) <= 1


def _moved(point: Vector, shift: Vector) -> Vector:
    return point[0] + shift[0], point[1] + shift[1], point[2] + shift[2]
