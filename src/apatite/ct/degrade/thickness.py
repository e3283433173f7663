"""Thin slices averaged into thick ones, as one scanner would have done it from the same rotation.

    thick(P) = mean over [P - T/2, P + T/2] of the thin slices,

each of which stands for the part of the normal that is nearest to it, at most its thickness to either side. Thick
slices follow each other without gap and cover all thin ones; at both ends the mean runs over what was scanned. Where
the gantry is tilted, every thin slice is first moved in its own plane to lie straight along the normal above the thick
one's pixels (linear interpolation; no thin slice is touched where there is no tilt).

A thin slice has a profile of its own, so the mean is over a box that is widened by it, and the first and last thin
slice of a mean count by their share: the thinner the slices, the better the box.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from apatite.core.scan import SliceStack
from apatite.ct.degrade.degradation import Degradation, Known, Marked, NewMarked, NewValues, Values

_ROUNDING_MM = 1e-6
_SHIFT_THAT_COUNTS = 1e-3
"""Pixels; positions in files are rounded to about a thousandth."""


@dataclass(frozen=True, kw_only=True)
class ThickSlices(Degradation):
    """Slices `level` mm thick, at the same distance."""

    what: ClassVar[str] = "thin slices averaged into thick ones (box profile)"
    unit: ClassVar[str] = "mm"
    axis: ClassVar[str] = "slice thickness"
    levels: ClassVar[tuple[float, ...]] = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
    limits: ClassVar[tuple[float, float]] = (0.25, 20.0)
    has_own_level: ClassVar[bool] = True

    def fits(self, stack: SliceStack) -> bool:
        """Whether all slices are thinner than the level, and no farther apart."""
        gaps = np.diff(stack.positions_mm)
        return bool(stack.shape[0] > 1 and stack.thickness_mm.max() < self.level and gaps.max() <= self.level)

    def slices(self, stack: SliceStack) -> SliceStack:
        """Thick slices over the extent of the thin ones, centred on it."""
        edges = slice_edges_mm(stack)
        low, high = edges[0, 0], edges[-1, 1]
        count = math.ceil((high - low) / self.level - _ROUNDING_MM)
        positions = (low + high - count * self.level) / 2 + (np.arange(count) + 0.5) * self.level
        return SliceStack(
            shape=(count, *stack.shape[1:]),
            origins_ras_mm=_origins_at(stack, positions),
            column_step_ras_mm=stack.column_step_ras_mm,
            row_step_ras_mm=stack.row_step_ras_mm,
            thickness_mm=np.full(count, self.level),
        )

    def spread(self, values: Values, is_known: Known, stack: SliceStack) -> NewValues:
        """Means of thin slices, over what is known of them."""
        thick = self.slices(stack)
        weights = profile_weights(stack, thick)
        result = np.zeros(thick.shape, dtype=np.float32)
        for number, row in enumerate(weights):
            total, share = np.zeros(stack.shape[1:]), np.zeros(stack.shape[1:])
            for thin in np.flatnonzero(row):
                known = np.ones(stack.shape[1:]) if is_known is None else is_known[thin].astype(float)
                by = _pixels_off(stack, int(thin), thick, number)
                total += row[thin] * _moved(values[thin] * known, by)
                share += row[thin] * _moved(known, by)
            result[number] = np.divide(total, share, out=np.zeros_like(total), where=share > _ROUNDING_MM)
        return result

    def padding(self, is_padding: Marked, stack: SliceStack) -> NewMarked:
        """Padding where every thin slice of a mean is."""
        return self.spread((~is_padding).astype(np.float32), None, stack) <= _ROUNDING_MM


def slice_edges_mm(stack: SliceStack) -> Float[np.ndarray, "slices 2"]:
    """Which part of the normal each slice stands for, from and to.

    Half of the way to each neighbour, but at most one thickness; at both ends half the thickness.
    """
    positions, thickness = stack.positions_mm, stack.thickness_mm
    middles = (positions[1:] + positions[:-1]) / 2
    low = np.concatenate([[positions[0] - thickness[0] / 2], middles])
    high = np.concatenate([middles, [positions[-1] + thickness[-1] / 2]])
    return np.stack([np.maximum(low, positions - thickness), np.minimum(high, positions + thickness)], axis=1)


def profile_weights(stack: SliceStack, thick: SliceStack) -> Float[np.ndarray, "thick slices"]:
    """How many mm of each thick slice each thin one fills."""
    edges = slice_edges_mm(stack)
    along = np.array([origin @ stack.normal_ras for origin in thick.origins_ras_mm])
    low, high = along - thick.thickness_mm / 2, along + thick.thickness_mm / 2
    return np.clip(
        np.minimum(high[:, None], edges[None, :, 1]) - np.maximum(low[:, None], edges[None, :, 0]), 0.0, None
    )


def _origins_at(stack: SliceStack, positions_mm: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points 3"]:
    """Pixel (0, 0) at positions along the normal, on the lines that join the origins of neighbouring slices."""
    positions, origins = stack.positions_mm, stack.origins_ras_mm
    lower = np.clip(np.searchsorted(positions, positions_mm, side="right") - 1, 0, len(positions) - 2)
    share = (positions_mm - positions[lower]) / (positions[lower + 1] - positions[lower])
    return origins[lower] + share[:, None] * (origins[lower + 1] - origins[lower])


def _pixels_off(stack: SliceStack, thin: int, thick: SliceStack, number: int) -> Float[np.ndarray, "2"]:
    """How many rows and columns a thin slice's pixel (0, 0) lies off a thick one's, seen along the normal."""
    offset = stack.origins_ras_mm[thin] - thick.origins_ras_mm[number]
    step = np.stack([stack.row_step_ras_mm, stack.column_step_ras_mm], axis=1)
    return np.linalg.pinv(step) @ offset


def _moved(plane: Float[np.ndarray, "rows columns"], by: Float[np.ndarray, "2"]) -> Float[np.ndarray, "rows columns"]:
    """A plane moved by part of a pixel; its border repeats."""
    if np.abs(by).max() < _SHIFT_THAT_COUNTS:
        return plane
    return np.asarray(ndimage.shift(plane, by, order=1, mode="nearest"))
