"""What `prepare` makes of each case: a region of equal size, or the whole body."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from apatite.core.errors import ConfigError
from apatite.core.intensity import Intensity
from apatite.ct.region import REGIONS, RegionConfig


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to make of each case.

    Attributes:
        kind: `region` cuts one equal region per case, `volume` keeps the whole body.
        region: Size of the region.
        spacing_mm: Of whole volumes, along i, j, k.
        least_shape: Whole volumes are padded with air to at least this, depth height width: the training crop.
        body_hu: Whole volumes are cropped to the largest body above this; in the unit of `intensity`.
        intensity: `hu` for CT; `zscore` for images without a unit, such as MR (`core.intensity`).
    """

    kind: Literal["region", "volume"] = "region"
    region: RegionConfig = REGIONS["small"]
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    least_shape: tuple[int, int, int] = (32, 48, 48)
    body_hu: float = -500.0
    intensity: Intensity = "hu"

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


def synapse() -> PrepareConfig:
    """Abdominal CT at 1.5×1.5×2.0 mm, as SelfMedMAE prepared BTCV; UNETR++'s own spacing is not known."""
    return PrepareConfig(kind="volume", spacing_mm=(1.5, 1.5, 2.0), least_shape=(64, 128, 128))


def btcv() -> PrepareConfig:
    """Abdominal CT at 1.5×1.5×2.0 mm and at least 96³ voxels, both as SelfMedMAE."""
    return PrepareConfig(kind="volume", spacing_mm=(1.5, 1.5, 2.0), least_shape=(96, 96, 96))


def acdc() -> PrepareConfig:
    """Cardiac MR in standard deviations, at 1.5×1.5×5.0 mm: our choice, between slices that lie 5 to 10 mm apart."""
    return PrepareConfig(
        kind="volume", spacing_mm=(1.5, 1.5, 5.0), least_shape=(16, 160, 160), intensity="zscore", body_hu=-1024.0
    )


def msd_lung() -> PrepareConfig:
    """Chest CT at 0.8×0.8×1.25 mm: our choice, near the scans' own; UNETR++'s is not known."""
    return PrepareConfig(kind="volume", spacing_mm=(0.8, 0.8, 1.25), least_shape=(32, 192, 192))


def msd_brats() -> PrepareConfig:
    """Brain MR in standard deviations, at 1 mm, cropped to what is brighter than two below the mean."""
    return PrepareConfig(
        kind="volume", spacing_mm=(1.0, 1.0, 1.0), least_shape=(128, 128, 128), intensity="zscore", body_hu=-512.0
    )


RECIPES: dict[str, Callable[[], PrepareConfig]] = {
    "region-small": region_small,
    "region-paper": region_paper,
    "volume": volume,
    "synapse": synapse,
    "btcv": btcv,
    "acdc": acdc,
    "msd_lung": msd_lung,
    "msd_brats": msd_brats,
}
