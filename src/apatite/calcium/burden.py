"""The burden group of a volume, in two definitions that are never mixed.

`paper`: groups 1–4 are the quartiles of the annotated test volumes, positives only; it exists once the test split has
been annotated, and compares with the paper. `deployed`: group 0 is "none" (below the limit of detection), groups 1–4
are quartiles frozen on development cases; it is what a user gets.

Source: Jin et al. 2025 (arXiv 2507.01744), "risk groups", for `paper`.
Differs: `deployed` has a group for no calcium, and its cut-points never see the test split.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from apatite.core.errors import ConfigError, DataError

Definition = Literal["paper", "deployed"]
Cuts = tuple[float, float, float]

DETECTION_PERCENTILE = 95.0
"""Of the false volume on calcium-free cases: what lies below may be nothing."""


@dataclass(frozen=True, kw_only=True)
class BurdenCuts:
    """Frozen cut-points.

    Attributes:
        definition: `paper` (groups 1–4) or `deployed` (groups 0–4).
        cuts_mm3: First, second and third quartile; a volume equal to a cut belongs to the lower group.
        none_below_mm3: Smaller volumes are group 0; 0 for `paper`, which has no such group.
        source: From how many cases of which kind, for the report.
    """

    definition: Definition
    cuts_mm3: Cuts
    none_below_mm3: float
    source: str

    def __post_init__(self) -> None:
        if self.definition not in ("paper", "deployed"):
            raise ConfigError(
                f"unknown definition of burden groups {self.definition!r}", fix="choose paper or deployed"
            )
        ordered = 0 <= self.cuts_mm3[0] <= self.cuts_mm3[1] <= self.cuts_mm3[2] < np.inf
        if not ordered or not 0 <= self.none_below_mm3 < np.inf:
            raise ConfigError(
                f"cut-points {self.cuts_mm3} above {self.none_below_mm3} mm³ are not in order", fix="sort them"
            )
        if self.definition == "paper" and self.none_below_mm3 != 0:
            raise ConfigError("the paper's definition has no group without calcium", fix="set none_below_mm3 to 0")

    @property
    def groups(self) -> tuple[int, ...]:
        """All groups of this definition, in order."""
        return (1, 2, 3, 4) if self.definition == "paper" else (0, 1, 2, 3, 4)

    def assign(self, volume_mm3: float) -> int:
        """The group of a volume."""
        return assign_group(volume_mm3, self.cuts_mm3, self.none_below_mm3)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON."""
        return {**asdict(self), "cuts_mm3": list(self.cuts_mm3)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BurdenCuts":
        """Inverse of `to_dict`."""
        first, second, third = (float(cut) for cut in values["cuts_mm3"])
        return cls(
            definition=values["definition"],
            cuts_mm3=(first, second, third),
            none_below_mm3=float(values["none_below_mm3"]),
            source=str(values["source"]),
        )


def quartile_cuts(volumes_mm3: Float[np.ndarray, "cases"]) -> Cuts:
    """First, second and third quartile (linear interpolation).

    Raises:
        DataError: fewer than four volumes (`TOO_FEW_CASES`), or one that is not finite (`NONFINITE`).
    """
    if len(volumes_mm3) < 4:
        raise DataError(
            f"{len(volumes_mm3)} volumes cannot be divided into four groups",
            fix="annotate more cases with calcium",
            code="TOO_FEW_CASES",
        )
    if not np.isfinite(volumes_mm3).all():
        raise DataError(
            "a volume is not a finite number", fix="leave that case out or measure it again", code="NONFINITE"
        )
    first, second, third = (float(cut) for cut in np.quantile(volumes_mm3, [0.25, 0.5, 0.75]))
    return first, second, third


def assign_group(volume_mm3: float, cuts: Cuts, none_below_mm3: float) -> int:
    """0 below `none_below_mm3`, else 1–4; a volume equal to a cut belongs to the lower group.

    Raises:
        DataError: the volume is negative or not a number (`NONFINITE`).
    """
    if not volume_mm3 >= 0:
        raise DataError(f"{volume_mm3} mm³ is not a volume", fix="measure that case again", code="NONFINITE")
    if volume_mm3 < none_below_mm3:
        return 0
    return 1 + sum(volume_mm3 > cut for cut in cuts)


def paper_cuts(annotated_test_mm3: Float[np.ndarray, "cases"]) -> BurdenCuts:
    """Quartiles of the annotated test volumes; cases without calcium are left out.

    Raises:
        DataError: as `quartile_cuts`.
    """
    positive = annotated_test_mm3[annotated_test_mm3 != 0]
    return BurdenCuts(
        definition="paper",
        cuts_mm3=quartile_cuts(positive),
        none_below_mm3=0.0,
        source=f"quartiles of {len(positive)} annotated test volumes with calcium",
    )


def deployed_cuts(
    development_mm3: Float[np.ndarray, "cases"],
    false_positive_mm3_on_negatives: Float[np.ndarray, "negatives"],
    two_voxels_mm3: float,
) -> BurdenCuts:
    """Limit of detection and quartiles, frozen on development cases.

    Args:
        development_mm3: Annotated volumes of the development cases; those below the limit of detection have no part
            in the quartiles, because they would be assigned to group 0.
        false_positive_mm3_on_negatives: Predicted volumes, after calibration, of the development cases without
            calcium. May be empty: then two voxels are the limit.
        two_voxels_mm3: Volume of two voxels, the smallest thing that the rule annotates.

    Raises:
        DataError: as `quartile_cuts`.
    """
    limit_mm3 = float(two_voxels_mm3)
    if len(false_positive_mm3_on_negatives):
        limit_mm3 = max(limit_mm3, float(np.percentile(false_positive_mm3_on_negatives, DETECTION_PERCENTILE)))
    detectable = development_mm3[~(development_mm3 < limit_mm3)]
    return BurdenCuts(
        definition="deployed",
        cuts_mm3=quartile_cuts(detectable),
        none_below_mm3=limit_mm3,
        source=(
            f"quartiles of {len(detectable)} development volumes; limit of detection from "
            f"{len(false_positive_mm3_on_negatives)} development cases without calcium"
        ),
    )
