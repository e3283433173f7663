"""What another kernel, dose or calibration does to the values of every slice; the slices stay where they are."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage

from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.scan import SliceStack
from apatite.ct.degrade.degradation import Degradation, Known, NewValues, Values

DETAIL_MM = 0.6
"""Width (SD) of the blur whose difference from the image is the detail that a sharper kernel adds."""
_NOTHING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Noise(Degradation):
    """Noise of a standard deviation of `level` HU on top of what there is; the total is the root of both squares.

    Attributes:
        grain_mm: Width (SD) of the kernel that correlates it; 0 for white noise.
    """

    grain_mm: float = 0.45

    what: ClassVar[str] = "noise added, correlated as a soft kernel does"
    unit: ClassVar[str] = "HU"
    axis: ClassVar[str] = "added noise (SD)"
    levels: ClassVar[tuple[float, ...]] = (5.0, 10.0, 20.0, 40.0)
    limits: ClassVar[tuple[float, float]] = (0.1, 500.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.grain_mm <= 5:
            raise ConfigError(f"a grain of {self.grain_mm:g} mm is impossible", fix="use 0 to 5 mm")

    def disturb(self, values_hu: Values, stack: SliceStack, key: str, seed: int) -> Values:
        """Add noise, drawn anew for every slice."""
        noise = generator(seed, "degrade", "noise", key).standard_normal(values_hu.shape, dtype=np.float32)
        if self.grain_mm:
            noise = np.asarray(ndimage.gaussian_filter(noise, _sigma(self.grain_mm, stack), mode="wrap"))
        return (values_hu + noise * np.float32(self.level / float(noise.std()))).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Blur(Degradation):
    """A softer kernel: a Gaussian of standard deviation `level` mm within each slice."""

    what: ClassVar[str] = "a softer kernel (Gaussian blur within the slice)"
    unit: ClassVar[str] = "mm"
    axis: ClassVar[str] = "in-plane blur (SD)"
    levels: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75, 1.0)
    limits: ClassVar[tuple[float, float]] = (0.01, 5.0)

    def spread(self, values: Values, is_known: Known, stack: SliceStack) -> NewValues:
        """Blurred within each slice."""
        return blurred(values, is_known, stack, self.level)


@dataclass(frozen=True, kw_only=True)
class Sharpen(Degradation):
    """A sharper kernel: `level` times the detail (the image minus its blur of 0.6 mm) is added."""

    what: ClassVar[str] = "a sharper kernel (unsharp, 0.6 mm)"
    unit: ClassVar[str] = ""
    axis: ClassVar[str] = "detail added"
    levels: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0)
    limits: ClassVar[tuple[float, float]] = (0.01, 5.0)

    def spread(self, values: Values, is_known: Known, stack: SliceStack) -> NewValues:
        """The image and its detail."""
        return ((1 + self.level) * values - self.level * blurred(values, is_known, stack, DETAIL_MM)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Offset(Degradation):
    """Every voxel `level` HU higher, as on a scanner that is out of calibration."""

    what: ClassVar[str] = "all values shifted (calibration of the scanner)"
    unit: ClassVar[str] = "HU"
    axis: ClassVar[str] = "HU offset"
    levels: ClassVar[tuple[float, ...]] = (-20.0, -10.0, 10.0, 20.0)
    limits: ClassVar[tuple[float, float]] = (-200.0, 200.0)
    is_two_sided: ClassVar[bool] = True

    def disturb(self, values_hu: Values, stack: SliceStack, key: str, seed: int) -> Values:
        """Add the offset."""
        del stack, key, seed
        return (values_hu + np.float32(self.level)).astype(np.float32)


def blurred(values: Values, is_known: Known, stack: SliceStack, sigma_mm: float) -> Values:
    """A Gaussian mean within each slice over what is known; the border repeats."""
    sigma = _sigma(sigma_mm, stack)
    if is_known is None:
        return np.asarray(ndimage.gaussian_filter(values, sigma, mode="nearest"), dtype=np.float32)
    known = is_known.astype(np.float32)
    total = np.asarray(ndimage.gaussian_filter(values * known, sigma, mode="nearest"))
    share = np.asarray(ndimage.gaussian_filter(known, sigma, mode="nearest"))
    mean = np.divide(total, share, out=np.zeros_like(total), where=share > _NOTHING)
    return np.where(is_known, mean, values).astype(np.float32)


def _sigma(sigma_mm: float, stack: SliceStack) -> tuple[float, float, float]:
    """The same width in pixels along slices (none), rows and columns."""
    return 0.0, sigma_mm / stack.row_spacing_mm, sigma_mm / stack.column_spacing_mm
