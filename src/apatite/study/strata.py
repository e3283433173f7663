"""The subsets in which everything is reported again: slice thickness, reconstruction kernel.

A mean over all cases hides the scanner; partial volume alone moves a 130-HU volume by more than most models differ.
"""

from collections.abc import Sequence

from apatite.study.outcomes import CaseOutcome

ALL = "all cases"
THICKNESS_EDGES_MM = (1.5, 3.5, 6.0)
THICKNESS_STRATA = ("≤ 1.5 mm", "1.5–3.5 mm", "3.5–6 mm", "> 6 mm")
"""A thickness equal to an edge belongs to the thinner stratum."""

KERNEL_STRATA = ("soft", "bone")


def thickness_stratum(thickness_mm: float | None) -> str:
    """The stratum of a slice thickness; empty where it is unknown."""
    if thickness_mm is None:
        return ""
    return THICKNESS_STRATA[sum(thickness_mm > edge for edge in THICKNESS_EDGES_MM)]


def strata(outcomes: Sequence[CaseOutcome]) -> dict[str, list[CaseOutcome]]:
    """Named subsets that hold at least one case, thin slices first: `slice thickness ≤ 1.5 mm`, `kernel soft`, ….

    Cases whose thickness or kernel is unknown are in none of them.
    """
    subsets = {
        f"slice thickness {name}": [o for o in outcomes if thickness_stratum(o.slice_thickness_mm) == name]
        for name in THICKNESS_STRATA
    }
    subsets |= {f"kernel {name}": [o for o in outcomes if o.kernel_class == name] for name in KERNEL_STRATA}
    return {name: subset for name, subset in subsets.items() if subset}
