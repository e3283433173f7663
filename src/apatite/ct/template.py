"""A head in MNI space to register to: the mean CT of many, read from a file, one per range of ages.

Nothing is shipped. A file is in Hounsfield units or in Cormack units, which spread the narrow range of soft tissue;
those are turned back, and what is neither, or no whole head, is refused.

Source: Rorden et al. 2012 (10.1016/j.neuroimage.2012.03.020), the template and its units; Jin et al. 2024
(DEMI@MICCAI), templates by age, cut at 72.5 years, and 65 years where the age is unknown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Num

from apatite.core.errors import ConfigError, DataError
from apatite.core.volume import Volume
from apatite.ct.boxes import BOXES
from apatite.io.nifti import read_volume

AGE_CUT_YEARS = 72.5
"""Where the younger template ends and the older begins."""
UNKNOWN_AGE_YEARS = 65.0

BONE_HU = 300.0
"""What is denser counts as bone, here and in the template of a match."""
AIR_HU = -500.0
TISSUE_HU = -300.0

Unit = Literal["hu", "cormack"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """A whole head in MNI space.

    Attributes:
        name: For reports.
        volume: HU, on a grid of MNI millimetres.
        age_from_years, age_to_years: The ages it stands for; the upper end is not included.
    """

    name: str
    volume: Volume
    age_from_years: float = 0.0
    age_to_years: float = math.inf


def read_template(
    path: Path, *, unit: Unit | None = None, age_from_years: float = 0.0, age_to_years: float = math.inf
) -> Template:
    """Read a head-CT template.

    Args:
        path: NIfTI in MNI space.
        unit: Of its values; recognised by their range where not said.
        age_from_years: The youngest it stands for.
        age_to_years: The end of its range, not included.

    Raises:
        DataError: unreadable, in other units (`HU_RANGE`), or no whole head (`BAD_TEMPLATE`).
    """
    volume = read_volume(path)
    unit = unit or recognised_unit(volume.voxels)
    if unit is None:
        raise DataError(
            "the template's values are neither HU nor Cormack units",
            where=path.name,
            fix="give a head-CT template; an MR image is none",
            code="HU_RANGE",
        )
    voxels_hu = cormack_to_hu(volume.voxels) if unit == "cormack" else volume.voxels.astype(np.float32)
    template = Template(
        name=path.name.removesuffix(".gz").removesuffix(".nii"),
        volume=Volume(voxels=voxels_hu, grid=volume.grid),
        age_from_years=age_from_years,
        age_to_years=age_to_years,
    )
    check_whole_head(template)
    return template


def choose_template(templates: Sequence[Template], age_years: float | None) -> Template:
    """The template for an age; the first whose range holds it. Where the age is unknown, 65 years.

    Raises:
        ConfigError: there is none for that age.
    """
    age = UNKNOWN_AGE_YEARS if age_years is None else age_years
    for template in templates:
        if template.age_from_years <= age < template.age_to_years:
            return template
    ranges = ", ".join(f"{t.age_from_years:g} to {t.age_to_years:g}" for t in templates) or "none"
    raise ConfigError(
        f"no template stands for a patient of this age (given: {ranges} years)", fix="give one without a range of ages"
    )


def cormack_to_hu(voxels: Num[np.ndarray, "depth height width"]) -> Float32[np.ndarray, "depth height width"]:
    """Cormack units back to HU: soft tissue had been spread elevenfold."""
    above = voxels.astype(np.float32) - 900
    return np.where(above <= 0, above, np.where(above <= 2200, above / 11, above - 2000)) - np.float32(124)


def recognised_unit(voxels: Num[np.ndarray, "depth height width"]) -> Unit | None:
    """HU reach down to air and have brain around 30; Cormack units begin at 0 and have brain around 2600."""
    low, high = float(voxels.min()), float(voxels.max())
    if -3100 <= low <= -900 and 500 <= high <= 5000:
        return "hu"
    brain = np.mean((voxels > 2264) & (voxels < 2924))
    return "cormack" if -1 <= low <= 100 and 2700 <= high <= 6100 and brain > 0.1 else None


def check_whole_head(template: Template) -> None:
    """Refuse what cannot be a whole head in MNI space.

    Raises:
        DataError: `BAD_TEMPLATE`.
    """
    voxels, grid = template.volume.voxels, template.volume.grid
    corners_ijk = grid.to_ijk(BOXES["ica"].corners_mni_mm)
    litres = {
        "bone": float((voxels > BONE_HU).sum() * grid.voxel_mm3 * 1e-6),
        "soft tissue": float(((voxels > -20) & (voxels < 100)).sum() * grid.voxel_mm3 * 1e-6),
        "air": float((voxels < AIR_HU).sum() * grid.voxel_mm3 * 1e-6),
    }
    missing = [name for name, least in (("bone", 0.2), ("soft tissue", 0.8), ("air", 0.5)) if litres[name] < least]
    if np.any(corners_ijk < 0) or np.any(corners_ijk > np.array(grid.shape[::-1]) - 1):
        missing.append("the carotids' region")
    if missing:
        raise DataError(
            f"the template is no whole head in MNI space: too little of it is {', '.join(missing)}",
            where=template.name,
            fix="give a whole-head CT template in MNI space, with its skull",
            code="BAD_TEMPLATE",
        )
