"""Quality control of one located scan, as plain numbers and flags; nothing here refuses a scan.

Each number has its own file: `completeness`, `triage` (similarity), `metal`, `motion`, `unusual`, `cover`.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.ct.boxes import Box
from apatite.ct.completeness import Completeness, completeness, information, register
from apatite.ct.cover import coverage
from apatite.ct.metal import Metal, metal
from apatite.ct.motion import Motion, motion
from apatite.ct.pose import HeadPose
from apatite.ct.triage import TriageRow, similarity
from apatite.ct.unusual import Features, Reference, region_features


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What is known about the quality of a scan.

    Attributes:
        completeness: Which part of the head it shows.
        similarity: To its template; a rank within a group, by itself it means nothing.
        information_base, information_vault: Median share of voxels that carry information, lower and upper half.
        coverage: Share of the box that the scan shows.
        metal: In the slices of the box.
        motion: Between them.
        features: What is compared with the reference.
        unusual: z of the features beyond the reference's limit; empty without a reference.
    """

    completeness: Completeness
    similarity: float
    information_base: float
    information_vault: float
    coverage: float
    metal: Metal
    motion: Motion
    features: Features
    unusual: dict[str, float]

    @property
    def flags(self) -> tuple[str, ...]:
        """`PARTIAL_FOV`, `METAL`, `MOTION`, `OOD`, in this order; those of the box are in `cover.Coverage`."""
        found = {
            "PARTIAL_FOV": self.completeness != "complete",
            "METAL": self.metal.num_pieces > 0,
            "MOTION": self.motion.is_moved,
            "OOD": bool(self.unusual),
        }
        return tuple(code for code, is_found in found.items() if is_found)

    def triage_row(self, case_id: str, template: str) -> TriageRow:
        """What decides whether a person looks at this scan."""
        return TriageRow(case_id=case_id, template=template, completeness=self.completeness, similarity=self.similarity)

    def to_dict(self) -> dict[str, Any]:
        """One row of a table: plain values under flat names; what could not be measured is `None`."""
        row: dict[str, Any] = {
            "completeness": self.completeness,
            "similarity": self.similarity,
            "information_base": self.information_base,
            "information_vault": self.information_vault,
            "coverage": self.coverage,
            "metal_pieces": self.metal.num_pieces,
            "metal_mm3": self.metal.volume_mm3,
            "shift_mm": self.motion.shift_mm,
            "shift_limit_mm": self.motion.limit_mm,
            **asdict(self.features),
            "unusual": " ".join(self.unusual),
            "flags": " ".join(self.flags),
        }
        return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}


def quality(scan: Scan, pose: HeadPose, template: Volume, box: Box, reference: Reference | None = None) -> Quality:
    """Everything that is known about the quality of a located scan.

    Args:
        scan: Original slices.
        pose: How the head lies.
        template: HU on a grid of MNI millimetres, the one that the scan was registered to.
        box: The artery's box.
        reference: What is usual; without one nothing is unusual.
    """
    return quality_of(scan, pose, register(scan, pose, template.grid), template, box, reference)


def quality_of(
    scan: Scan, pose: HeadPose, registered: Volume, template: Volume, box: Box, reference: Reference | None = None
) -> Quality:
    """As `quality`, for a scan that has been registered already, because a thumbnail is made of it too."""
    share = information(registered)
    middle = round(len(share) / 2)
    features = region_features(scan, pose, box)
    return Quality(
        completeness=completeness(share),
        similarity=similarity(registered, template),
        information_base=float(np.median(share[:middle])),
        information_vault=float(np.median(share[middle:])),
        coverage=coverage(scan, pose, box).fraction,
        metal=metal(scan, pose, box),
        motion=motion(scan, pose, box),
        features=features,
        unusual=reference.unusual(features) if reference is not None else {},
    )
