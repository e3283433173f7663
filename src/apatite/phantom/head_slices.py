"""Where the slices of a head scan lie: any orientation, tilt, spacing and cover.

A layout says which way columns, rows and slices run in the patient. A tilted gantry turns the slices about the column
direction while the table goes straight on, so the stack is sheared; an oblique scan turns everything.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.scan import SliceStack
from apatite.phantom.protocol import Protocol
from apatite.phantom.shapes import Vector, rotation

Directions = tuple[Vector, Vector, Vector]

LAYOUTS: Final[dict[str, Directions]] = {
    "supine": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "prone": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "feet_first": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "downwards": ((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "sagittal": ((0, -1, 0), (0, 0, -1), (-1, 0, 0)),
    "coronal": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
}
"""Name → directions (RAS) along columns, rows and slices. `downwards` has the vertex first; it is mirrored to those
who take the order of slices for an axis."""


@dataclass(frozen=True, kw_only=True)
class SliceLayout:
    """How slices are laid through a head.

    Attributes:
        name: Key of `LAYOUTS`.
        rows, columns: Pixels.
        oblique_deg: Further turn of all directions about x, y, z of the patient.
        low_mm, high_mm: What is covered, from the middle of the carotids along the slice direction.
    """

    name: str = "supine"
    rows: int = 512
    columns: int = 512
    oblique_deg: Vector = (0.0, 0.0, 0.0)
    low_mm: float = -44.0
    high_mm: float = 116.0

    def __post_init__(self) -> None:
        choose(LAYOUTS, self.name, "layout")
        if self.rows < 8 or self.columns < 8 or self.high_mm <= self.low_mm:
            raise ConfigError("a layout needs at least 8 rows and columns, and a top above its bottom")


def lay_head_slices(
    protocol: Protocol,
    layout: SliceLayout,
    centre_ras_mm: Float[np.ndarray, "3"],
    carotid_ras_mm: Float[np.ndarray, "3"],
) -> SliceStack:
    """Slices through a head.

    Args:
        protocol: Pixel size, thickness, spacing, the upper block and tilt.
        layout: Directions and cover.
        centre_ras_mm: What the pixels are centred on, at its height.
        carotid_ras_mm: Where the cover and the upper block are counted from.

    Returns:
        Slices in the order of the layout's slice direction.
    """
    turn = rotation(layout.oblique_deg).T
    column, row, way = (turn @ np.array(direction, dtype=float) for direction in LAYOUTS[layout.name])
    tilt = math.radians(protocol.tilt_deg)
    normal = math.cos(tilt) * way + math.sin(tilt) * row
    row = math.cos(tilt) * row - math.sin(tilt) * way
    along, thickness = slice_positions(protocol, layout.low_mm, layout.high_mm)
    # Positions count along the normal from the carotids; the table moves along `way`, through the head's centre.
    start = centre_ras_mm - way * float((centre_ras_mm - carotid_ras_mm) @ normal) / float(normal @ way)
    middles = start + along[:, None] / math.cos(tilt) * way
    row_step, column_step = row * protocol.pixel_mm, column * protocol.pixel_mm
    return SliceStack(
        shape=(len(along), layout.rows, layout.columns),
        origins_ras_mm=middles - row_step * (layout.rows - 1) / 2 - column_step * (layout.columns - 1) / 2,
        column_step_ras_mm=column_step,
        row_step_ras_mm=row_step,
        thickness_mm=thickness,
    )


def slice_positions(
    protocol: Protocol, low_mm: float, high_mm: float
) -> tuple[Float[np.ndarray, "slices"], Float[np.ndarray, "slices"]]:
    """Positions along the normal and thicknesses; slices of an upper block touch those of the base."""
    stop = min(protocol.vault_from_mm, high_mm) if protocol.vault_mm else high_mm
    base = low_mm + protocol.spacing_mm * np.arange(max(1, math.ceil((stop - low_mm) / protocol.spacing_mm)))
    if not protocol.vault_mm:
        return base, np.full(len(base), protocol.thickness_mm)
    first = float(base[-1]) + (protocol.thickness_mm + protocol.vault_mm) / 2
    vault = first + protocol.vault_mm * np.arange(max(1, math.ceil((high_mm - first) / protocol.vault_mm)))
    thickness = np.concatenate([np.full(len(base), protocol.thickness_mm), np.full(len(vault), protocol.vault_mm)])
    return np.concatenate([base, vault]), thickness


def tilt_of(stack: SliceStack) -> float:
    """Angle in degrees between the slices' normal and the way from slice to slice; 0 for a single slice.

    Positive where the slices rise towards the back of the head, as scanners count it.
    """
    way = stack.origins_ras_mm[-1] - stack.origins_ras_mm[0]
    length = float(np.linalg.norm(way))
    if length == 0:
        return 0.0
    along = np.clip(way @ stack.normal_ras / length, -1, 1)
    return math.degrees(math.acos(along)) * (-1.0 if float(way @ stack.row_step_ras_mm) > 0 else 1.0)
