"""Which registered scans a person should look at: the least alike within their group, and every doubtful one.

How alike a CT and a template are means nothing by itself: it hangs on age, field of view and kernel. So it only ranks
scans among those of the same age template and the same part of the head.

Source: Jin et al. 2024 (DEMI@MICCAI) and public code of the authors: 3-D SSIM, a uniform window of 7³ voxels, a range
of 4000 HU; the lowest 5 % of each group, and all that are "middle" or "incomplete".
Differs: of a small group at least one is looked at; the authors round 5 % down to none.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from apatite.core.volume import Volume
from apatite.ct.completeness import DOUBTFUL, Completeness

RANGE_HU = 4000.0
WINDOW_HU = (-1000.0, 3000.0)
LEAST_SHARE = 0.05
"""This share of each group is looked at, those least alike their template."""


@dataclass(frozen=True, kw_only=True)
class TriageRow:
    """One registered scan.

    Attributes:
        case_id: Of the scan.
        template: Name of the template, which stands for the age group.
        completeness: Which part of the head it shows.
        similarity: To its template, as `similarity` gives it.
    """

    case_id: str
    template: str
    completeness: Completeness
    similarity: float


def similarity(registered: Volume, template: Volume) -> float:
    """Structural similarity of a registered scan and its template, at most 1.

    Raises:
        ValueError: they do not lie on the same grid.
    """
    if not registered.grid.matches(template.grid):
        raise ValueError("the registered scan and the template lie on different grids")
    scan_hu, template_hu = (np.clip(volume.voxels.astype(np.float32), *WINDOW_HU) for volume in (registered, template))
    value: Any = structural_similarity(scan_hu, template_hu, data_range=RANGE_HU)
    return float(value)


def triage(rows: Sequence[TriageRow], share: float = LEAST_SHARE) -> tuple[str, ...]:
    """The cases that a person should look at, the least alike first.

    Args:
        rows: Every registered scan of a batch.
        share: Of each group; rounded up.
    """
    groups: dict[tuple[str, str], list[TriageRow]] = defaultdict(list)
    for row in rows:
        groups[row.template, row.completeness].append(row)
    chosen = []
    for (_, kind), group in groups.items():
        count = len(group) if kind in DOUBTFUL else math.ceil(share * len(group))
        chosen += sorted(group, key=_by_similarity)[:count]
    return tuple(row.case_id for row in sorted(chosen, key=_by_similarity))


def _by_similarity(row: TriageRow) -> tuple[float, str]:
    # What could not be compared is no number; it comes first.
    return (row.similarity if math.isfinite(row.similarity) else -math.inf), row.case_id
