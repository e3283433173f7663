"""Where the region of a case lies: as stated, in the middle of a scan cut out beforehand, or found with a template."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from apatite.core.errors import DataError
from apatite.core.scan import Scan, SliceStack
from apatite.core.volume import Grid
from apatite.ct.boxes import BOXES
from apatite.ct.cover import Coverage, coverage, training_grid
from apatite.ct.localise import Localisation, localise
from apatite.ct.quality import Quality
from apatite.ct.region import RegionConfig, middle_region
from apatite.ct.template import Template, choose_template
from apatite.data.prepare_quality import quality_of
from apatite.io.case import Case

BOX = "ica"
"""The artery whose region is cut: the internal carotids."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A region that was found by registration.

    Attributes:
        template: Name of what it was registered to.
        localisation: How the head lies, and how far that may be trusted.
        coverage: How much of the artery's box the scan shows.
        quality: Further figures of the scan.
        looks: The scan on a grid of 2 mm in MNI space, in grey levels (`prepare_quality.to_grey`).
    """

    template: str
    localisation: Localisation
    coverage: Coverage
    quality: Quality
    looks: UInt8[np.ndarray, "depth height width"]

    @property
    def flags(self) -> tuple[str, ...]:
        """What goes with everything made of this region."""
        return tuple(sorted({*self.localisation.flags, *self.coverage.flags, *self.quality.flags}))

    @property
    def centre_ras_mm(self) -> tuple[float, float, float]:
        """The middle of the artery's box in the patient, as a manifest states it."""
        x, y, z = np.round(self.localisation.pose.to_ras(BOXES[BOX].centre_mni_mm), 3).tolist()
        return (x, y, z)


def place_region(
    scan: Scan, case: Case, region: RegionConfig, templates: Sequence[Template]
) -> tuple[Grid, Found | None]:
    """The grid of a case's region, and how it was found where nothing states it.

    Raises:
        DataError: the scan does not show the region (`ROI_ABSENT`, `ROI_PARTIAL`) or cannot be registered (`REG_FAIL`).
    """
    if case.region_centre_ras_mm is not None:
        centre = np.array(case.region_centre_ras_mm)
        _refuse_outside(scan.stack, centre, case)
        return region.grid(centre), None
    grid = middle_region(scan.stack, region)
    if grid is not None:
        return grid, None
    if not templates:
        raise DataError(
            "is much larger than the region, and nothing says where the region is",
            where=case.case_id,
            fix="find it with --template or --localise, fill in region_centre_ras_mm, or cut the scan out first",
            code="ROI_ABSENT",
        )
    found = find_region(scan, case, templates)
    return training_grid(found.localisation.pose, BOXES[BOX], region), found


def find_region(scan: Scan, case: Case, templates: Sequence[Template]) -> Found:
    """Register a whole head to the template for the patient's age, and see how much of the artery is shown.

    Raises:
        DataError: it cannot be registered (`REG_FAIL`), or shows less than half of the artery's box (`ROI_ABSENT`).
    """
    template = choose_template(templates, case.age)
    # One thread: as many cases as there are workers are under way beside it.
    localisation = localise(scan, template, threads=1, where=case.case_id)
    shown = coverage(scan, localisation.pose, BOXES[BOX])
    try:
        shown.require()
    except DataError as error:
        error.where = case.case_id
        raise
    quality, looks = quality_of(scan, localisation.pose, BOXES[BOX], template)
    return Found(template=template.name, localisation=localisation, coverage=shown, quality=quality, looks=looks)


def _refuse_outside(stack: SliceStack, centre: np.ndarray, case: Case) -> None:
    """A region whose centre is not in the scan would be made of padding."""
    index = stack.to_slice_row_column(centre[None, :])[0]
    if np.any(index < -0.5) or np.any(index > np.array(stack.shape) - 0.5):
        raise DataError(
            f"the region's centre {np.round(centre, 1).tolist()} mm lies outside the scan",
            where=case.case_id,
            fix="correct region_centre_ras_mm",
            code="ROI_PARTIAL",
        )
