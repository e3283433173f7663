"""What the paper prints, in one place: it only ever stands beside figures of this package, in a column of its own.

Its data are not public: IST-3, clinical CT of 2,351 patients. A figure obtained here on other data cannot agree or
disagree with one of these; only the order of models can be compared.

Source: Jin et al. 2025 (arXiv 2507.01744). Table 2: `MAIN`. Table 3, threshold 0.5, patch 4: `DECODERS`. Text on
data: `SPLITS`. Text on risk groups: `BURDEN`. The abstract says that its ViT beats nnU-Net by 3.2 points of Dice; Table
2 gives 65.1 and 62.1, which is 3.0.
Differs: Dice, precision and recall are written as shares here, 0.651 for 65.1.
"""

import math
from dataclasses import dataclass
from typing import Final

from apatite.core.volume import Estimate

TAG: Final = "paper (IST-3, other data)"
"""What every column of these figures is called."""


def _share(points: float, low: float = math.nan, high: float = math.nan) -> Estimate:
    return Estimate(value=points / 100, low=low / 100, high=high / 100, unit="", coverage=0.95)


def _mm3(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, unit="mm³", coverage=0.95)


@dataclass(frozen=True, kw_only=True)
class Printed:
    """One line of the paper's main table.

    Attributes:
        dice: With its 95 % interval, where it is printed.
        volume_error_mm3: Mean |ΔV|; None where it is not printed.
    """

    dice: Estimate
    volume_error_mm3: Estimate | None = None


MAIN: Final[dict[tuple[str, str], Printed]] = {
    ("nnunet", "raw"): Printed(dice=_share(62.1, 58.7, 64.7), volume_error_mm3=_mm3(188, 158, 225)),
    ("scratch", "calibrated"): Printed(dice=_share(37.1, 34.0, 40.6), volume_error_mm3=_mm3(280, 253, 314)),
    ("mae", "raw"): Printed(dice=_share(60.6)),
    ("mae", "calibrated"): Printed(dice=_share(65.1, 62.0, 68.4), volume_error_mm3=_mm3(100, 82, 130)),
}
"""By start of training and reading: ViT-S, patch 4, MAE decoder, and nnU-Net, which the paper shows uncalibrated."""

DECODERS: Final[dict[tuple[str, str], tuple[float, float, float]]] = {
    ("vitiac-s", "unetr"): (0.538, 0.538, 0.640),
    ("vitiac-s", "sfpn"): (0.605, 0.701, 0.591),
    ("vitiac-s", "upscale"): (0.595, 0.689, 0.595),
    ("vitiac-s", "mae"): (0.606, 0.805, 0.538),
    ("vitiac-m", "unetr"): (0.574, 0.604, 0.641),
    ("vitiac-m", "sfpn"): (0.578, 0.649, 0.594),
    ("vitiac-m", "upscale"): (0.571, 0.740, 0.520),
    ("vitiac-m", "mae"): (0.602, 0.795, 0.526),
    ("vitiac-l", "unetr"): (0.588, 0.641, 0.618),
    ("vitiac-l", "sfpn"): (0.596, 0.677, 0.615),
    ("vitiac-l", "upscale"): (0.545, 0.646, 0.550),
    ("vitiac-l", "mae"): (0.614, 0.836, 0.520),
}
"""Encoder and decoder → Dice, precision, recall; pre-trained, patch 4, threshold 0.5."""

SPLITS: Final[dict[str, tuple[int, int | None, int | None]]] = {
    "pretrain": (4933, 1880, None),
    "finetune": (188, None, 158),
    "development": (235, 235, 211),
    "test": (236, 236, 209),
}
"""Split → series, patients, series with calcium; None where the paper does not say. Development and test hold one
series per patient."""

BURDEN: Final[dict[tuple[str, str], tuple[int, int]]] = {
    ("nnunet", "raw"): (105, 209),
    ("mae", "calibrated"): (153, 209),
}
"""Cases in the right quartile, of all cases with calcium."""

PARAMETERS: Final[dict[str, int]] = {"vitiac-s": 10_000_000, "vitiac-m": 40_000_000, "vitiac-l": 157_000_000}
"""Of the autoencoder at patch 8, rounded as printed."""

PATCH_MM: Final = (1.76, 1.76, 4.0)
"""Edges of the paper's smallest patch, 4 voxels of 0.44 × 0.44 × 1.0 mm. The spacing is inferred from code of the same
authors; the paper itself names voxels only."""
