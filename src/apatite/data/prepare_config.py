"""What `prepare` makes of each case: a region of equal size, or the whole body."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from apatite.core.errors import ConfigError
from apatite.ct.region import REGIONS, RegionConfig


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to make of each case.

    Attributes:
        kind: `region` cuts one equal region per case, `volume` keeps the whole body.
        region: Size of the region.
        spacing_mm: Of whole volumes, along i, j, k.
        least_shape: Whole volumes are padded with air to at least this, depth height width: the training crop.
        body_hu: Whole volumes are cropped to the largest body above this.
    """

    kind: Literal["region", "volume"] = "region"
    region: RegionConfig = REGIONS["small"]
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    least_shape: tuple[int, int, int] = (32, 48, 48)
    body_hu: float = -500.0

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0 or min(self.least_shape) < 1:
            raise ConfigError("spacing_mm and least_shape must be positive", fix="correct those values")


def region_small() -> PrepareConfig:
    """Regions of 48×48×16 voxels, for two cores."""
    return PrepareConfig(kind="region", region=REGIONS["small"])


def region_paper() -> PrepareConfig:
    """Regions of 96×96×32 voxels, as Jin et al. 2025."""
    return PrepareConfig(kind="region", region=REGIONS["paper"])


def volume() -> PrepareConfig:
    """Whole volumes at 3 mm, cropped to the body."""
    return PrepareConfig(kind="volume")


RECIPES: dict[str, Callable[[], PrepareConfig]] = {
    "region-small": region_small,
    "region-paper": region_paper,
    "volume": volume,
}
