"""The subsets in which everything is reported again: slice thickness, reconstruction kernel, amount of calcium.

A mean over all cases hides the scanner; partial volume alone moves a 130-HU volume by more than most models differ. And
a mean volume error is that of the few patients with much calcium.
"""

from collections.abc import Sequence

import numpy as np

from apatite.calcium.burden import assign_group, quartile_cuts
from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.core.errors import ConfigError
from apatite.study.outcomes import CaseOutcome

ALL = "all cases"
KERNEL_STRATA = ("soft", "bone")

SIZE_CUTS_MM3 = (10.0, 100.0)
"""Between small, medium and large reference volumes; a volume equal to a cut belongs to the smaller stratum."""

_LEAST_FOR_QUARTILES = 4


def strata(outcomes: Sequence[CaseOutcome]) -> dict[str, list[CaseOutcome]]:
    """Named subsets that hold at least one case, thin slices first: `slice thickness ≤ 1.5 mm`, `kernel soft`, ….

    Cases whose thickness or kernel is unknown are in none of them.
    """
    subsets = {
        f"slice thickness {name}": [o for o in outcomes if thickness_group(o.slice_thickness_mm) == name]
        for name in THICKNESS_GROUPS
    }
    subsets |= {f"kernel {name}": [o for o in outcomes if o.kernel_class == name] for name in KERNEL_STRATA}
    return {name: subset for name, subset in subsets.items() if subset}


def volume_strata(
    outcomes: Sequence[CaseOutcome], size_cuts_mm3: tuple[float, float] = SIZE_CUTS_MM3
) -> dict[str, list[CaseOutcome]]:
    """Named subsets of the positive cases by their reference volume: its quartiles, and small, medium, large.

    Args:
        outcomes: Cases of one model and one label. The reference is the same for every model, and so are the subsets.
        size_cuts_mm3: Between small, medium and large.

    Returns:
        Those that hold at least one case, small volumes first; no quartiles where fewer than four cases are positive.

    Raises:
        ConfigError: the cut-points are not two ascending positive numbers.
    """
    refuse_unordered(size_cuts_mm3)
    low, high = size_cuts_mm3
    positive = [o for o in outcomes if o.is_positive]
    subsets: dict[str, list[CaseOutcome]] = {}
    if len(positive) >= _LEAST_FOR_QUARTILES:
        cuts = quartile_cuts(np.array([o.reference_mm3 for o in positive]))
        for group in (1, 2, 3, 4):
            subsets[f"volume quartile {group}"] = [
                o for o in positive if assign_group(o.reference_mm3, cuts, 0.0) == group
            ]
    names = (f"volume ≤ {low:g} mm³", f"volume {low:g}–{high:g} mm³", f"volume > {high:g} mm³")
    for size, name in enumerate(names):
        subsets[name] = [o for o in positive if (o.reference_mm3 > low) + (o.reference_mm3 > high) == size]
    return {name: subset for name, subset in subsets.items() if subset}


def refuse_unordered(size_cuts_mm3: tuple[float, float]) -> None:
    """Cut-points between small, medium and large.

    Raises:
        ConfigError: they are not two ascending positive numbers.
    """
    low, high = size_cuts_mm3
    if not 0 < low < high < np.inf:
        raise ConfigError(
            f"cut-points {low:g} and {high:g} mm³ are not in order", fix="give a smaller and a larger one"
        )
