"""What every way of making a scan worse has: a level with its unit, and what it does to slices, values and region.

A way is a dataclass that overrides what it changes. What it does to values comes in two parts, because a reference has
to go the same way: `spread` is linear, and may be asked for what a few voxels of the old scan add to each voxel of the
new one; `disturb` is what is added afterwards.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32

from apatite.core.errors import ConfigError
from apatite.core.scan import PADDING_HU, Scan, SliceStack

Values = Float32[np.ndarray, "slices rows columns"]
Marked = Bool[np.ndarray, "slices rows columns"]
NewValues = Float32[np.ndarray, "new_slices rows columns"]
NewMarked = Bool[np.ndarray, "new_slices rows columns"]
"""The same on the new slices, of which there may be fewer."""
Known = Bool[np.ndarray, "slices rows columns"] | None
"""True where the scanner reconstructed something; `None` where it did everywhere."""
Point = Float[np.ndarray, "3"]


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Nothing is changed; the ways of degrading derive from this.

    Attributes:
        level: How much, in `unit`.
    """

    level: float

    what: ClassVar[str] = "nothing is changed"
    """One sentence, for tables and pages."""
    unit: ClassVar[str] = ""
    axis: ClassVar[str] = "level"
    """The level in words, for the axis of a figure, without unit."""
    levels: ClassVar[tuple[float, ...]] = ()
    """Looked at where no others are asked for."""
    limits: ClassVar[tuple[float, float]] = (-np.inf, np.inf)
    """Least and largest level that make sense."""
    is_two_sided: ClassVar[bool] = False
    """Whether levels run to either side of the scan as it is."""
    has_own_level: ClassVar[bool] = False
    """Whether a scan has a level of its own, such as its thickness; else the scan as it is stands at 0."""

    is_ordered: ClassVar[bool] = True
    """Whether a larger level is more of the same; only then is there a range."""

    def __post_init__(self) -> None:
        low, high = self.limits
        if not (np.isfinite(self.level) and low <= self.level <= high and self.level != 0):
            raise ConfigError(
                f"a level of {self.level:g} {self.unit} is no degradation".replace("  ", " "),
                fix=f"use levels from {low:g} to {high:g} {self.unit}, but not 0".strip(),
            )

    @property
    def text(self) -> str:
        """The level without its unit, as it is shown."""
        return f"{self.level:g}".replace("-", "−")

    def fits(self, stack: SliceStack) -> bool:
        """Whether a scan with these slices can be degraded so."""
        del stack
        return True

    def slices(self, stack: SliceStack) -> SliceStack:
        """Where the slices of the new scan lie."""
        return stack

    def spread(self, values: Values, is_known: Known, stack: SliceStack) -> NewValues:
        """The linear part: what values on the old slices are on the new ones.

        Args:
            values: On the old slices, HU or anything that adds up as HU do.
            is_known: Values elsewhere take no part.
            stack: The old slices.
        """
        del is_known, stack
        return values

    def padding(self, is_padding: Marked, stack: SliceStack) -> NewMarked:
        """Which voxels of the new scan nothing was reconstructed for."""
        del stack
        return is_padding

    def disturb(self, values_hu: Values, stack: SliceStack, key: str, seed: int) -> Values:
        """What is added afterwards; a function of (seed, key) alone where it is random."""
        del stack, key, seed
        return values_hu

    def centre(self, centre_ras_mm: Point, key: str, seed: int) -> Point:
        """Where the region's centre is put."""
        del key, seed
        return centre_ras_mm


def degrade(scan: Scan, degradation: Degradation, key: str, seed: int = 0) -> Scan:
    """A scan made worse.

    Args:
        scan: Original slices.
        degradation: How, and how much.
        key: Names the scan in random draws; one scan has the same noise at every level, only more of it.
        seed: Of the draws.

    Returns:
        Float32 HU, not rounded, on `degradation.slices(scan.stack)`. A voxel none of whose sources was reconstructed
        is padding.

    Raises:
        ValueError: the degradation does not fit the slices; ask `fits` before.
    """
    if not degradation.fits(scan.stack):
        raise ValueError(f"{degradation} does not fit slices of {scan.stack.thickness_mm.max():g} mm")
    stack = degradation.slices(scan.stack)
    is_known = None if scan.is_padding is None else ~scan.is_padding
    values = degradation.spread(scan.voxels_hu.astype(np.float32), is_known, scan.stack)
    values = degradation.disturb(values, stack, key, seed)
    if is_known is None:
        return Scan(voxels_hu=values, stack=stack)
    is_padding = degradation.padding(~is_known, scan.stack)
    return Scan(voxels_hu=np.where(is_padding, np.float32(PADDING_HU), values), stack=stack, is_padding=is_padding)
