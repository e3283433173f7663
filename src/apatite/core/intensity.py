"""What the voxels of a scan are counted in: Hounsfield units, or standard deviations of the image itself.

HU are absolute and are left alone. Magnetic resonance has no such unit: the same tissue has another number in every
scan. There each scan is measured against its own mean and standard deviation, over its voxels that are not 0 (outside a
skull-stripped brain there is nothing to measure), and stored as

    256 (value - mean) / standard deviation

so the mean is 0, and four deviations below it are `PADDING_HU`, the value that everywhere stands for "nothing was
scanned here"; what is darker still is set to it. The map is one line for all voxels, those of value 0 as well.

Source: z-scores over non-zero voxels as in SelfMedMAE (Zhou et al. 2022, arXiv 2203.05573) for BraTS, and per image as
in nnU-Net for everything but CT.
Differs: a fixed scale and a floor, so that int16 holds them; MONAI leaves voxels of value 0 at 0, the mean.
"""

from typing import Final, Literal

import numpy as np

from apatite.core.errors import DataError
from apatite.core.scan import PADDING_HU, Scan

Intensity = Literal["hu", "zscore"]
STEPS_PER_DEVIATION: Final = 256.0
"""So many stored steps are one standard deviation."""


def in_intensity(scan: Scan, intensity: Intensity, where: str = "") -> Scan:
    """A scan, as read, in the unit that a network is given.

    Args:
        scan: HU, or whatever numbers the scanner gave.
        intensity: `hu` returns the scan itself; `zscore` counts in 1/256 standard deviations, float32, -1024 and up.
        where: The case, for messages.

    Raises:
        DataError: the scan's voxels that are not 0 are all alike, so that they have no deviation (`FLAT`).
    """
    if intensity == "hu":
        return scan
    values = scan.voxels_hu[scan.voxels_hu != 0].astype(np.float64)
    deviation = float(values.std()) if len(values) else 0.0
    if deviation == 0:
        raise DataError("holds one value only", where=where, fix="check the image", code="FLAT")
    z = (scan.voxels_hu.astype(np.float64) - values.mean()) / deviation
    stored = np.maximum(z * STEPS_PER_DEVIATION, PADDING_HU).astype(np.float32)
    return Scan(voxels_hu=stored, stack=scan.stack, is_padding=scan.is_padding)
