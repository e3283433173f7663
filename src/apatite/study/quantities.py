"""Every quantity of an evaluation as one entry of a table: over which cases, how per case, how over cases.

Overlap is averaged over the cases whose reference marks something; cases without calcium are reported apart, by what
was falsely found in them. A case in which nothing was predicted has no precision, and is left out of its mean; its HD95
is the span of the region, the largest distance there can be.

Lesions are 26-connected, and any overlap is a hit, counted on either side: (found + true) / (reference + predicted) is
their F1, with found + true in the place of 2·TP.

Source: Jin et al. 2025 (arXiv 2507.01744), Tables 2 and 3, for Dice, precision, recall and |ΔV|.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from apatite.metrics.bootstrap import mean, median, ratio_of_sums
from apatite.study.outcomes import CaseOutcome

Among = Literal["positive", "free", "all"]
Better = Literal["higher", "lower", "near zero"]
CaseValue = Callable[[CaseOutcome], float | tuple[float, float]]
Statistic = Callable[[np.ndarray], float]


def percentile_95(values: Float[np.ndarray, "cases"]) -> float:
    """The 95th percentile; NaN without cases."""
    return float(np.percentile(values, 95)) if len(values) else math.nan


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One column of the tables.

    Attributes:
        title: As in a heading, without unit.
        unit: Of the value; empty for a ratio.
        among: Over cases whose reference is `positive`, `free` (empty), or over `all`.
        of_case: Value of one case (or numerator and denominator, for ratios that are pooled).
        statistic: From the cases' values to the number.
        better: Which values are the better ones.
    """

    title: str
    unit: str
    among: Among
    of_case: CaseValue
    statistic: Statistic = mean
    better: Better = "higher"

    @property
    def heading(self) -> str:
        """Title with unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def chosen(self, outcomes: Sequence[CaseOutcome]) -> list[CaseOutcome]:
        """The cases that this quantity is about."""
        if self.among == "all":
            return list(outcomes)
        return [outcome for outcome in outcomes if outcome.is_positive == (self.among == "positive")]

    def values(self, outcomes: Sequence[CaseOutcome]) -> Float[np.ndarray, "cases *columns"]:
        """One value (or pair of values) per case given; choose the cases before."""
        return np.array([self.of_case(outcome) for outcome in outcomes], dtype=np.float64)


def _to_analytic(outcome: CaseOutcome) -> float:
    return math.nan if outcome.analytic_mm3 is None else outcome.predicted_mm3 - outcome.analytic_mm3


def _known(value: float | None) -> float:
    """A value that earlier tables lack, or that a case does not have."""
    return math.nan if value is None else float(value)


QUANTITIES: dict[str, Quantity] = {
    "dice": Quantity(title="Dice", unit="", among="positive", of_case=lambda o: o.overlap.dice),
    "precision": Quantity(title="precision", unit="", among="positive", of_case=lambda o: o.overlap.precision),
    "recall": Quantity(title="recall", unit="", among="positive", of_case=lambda o: o.overlap.recall),
    "surface_dice": Quantity(title="surface Dice", unit="", among="positive", of_case=lambda o: _known(o.surface_dice)),
    "hd95_mm": Quantity(title="HD95", unit="mm", among="positive", of_case=lambda o: _known(o.hd95_mm), better="lower"),
    "betti_error": Quantity(
        title="Betti error", unit="", among="positive", of_case=lambda o: _known(o.betti_error), better="lower"
    ),
    "volume_error_mm3": Quantity(
        title="|ΔV|",
        unit="mm³",
        among="positive",
        of_case=lambda o: abs(o.volume_difference_mm3),
        better="lower",
    ),
    "volume_error_median_mm3": Quantity(
        title="median |ΔV|",
        unit="mm³",
        among="positive",
        of_case=lambda o: abs(o.volume_difference_mm3),
        statistic=median,
        better="lower",
    ),
    "volume_bias_mm3": Quantity(
        title="ΔV", unit="mm³", among="positive", of_case=lambda o: o.volume_difference_mm3, better="near zero"
    ),
    "volume_bias_to_analytic_mm3": Quantity(
        title="ΔV to the analytic volume", unit="mm³", among="positive", of_case=_to_analytic, better="near zero"
    ),
    "volume_error_all_mm3": Quantity(
        title="|ΔV|, all cases",
        unit="mm³",
        among="all",
        of_case=lambda o: abs(o.volume_difference_mm3),
        better="lower",
    ),
    "lesion_sensitivity": Quantity(
        title="lesion sensitivity",
        unit="",
        among="positive",
        of_case=lambda o: (o.lesions_found, o.lesions_reference),
        statistic=ratio_of_sums,
    ),
    "lesion_precision": Quantity(
        title="lesion precision",
        unit="",
        among="all",
        of_case=lambda o: (o.lesions_true, o.lesions_predicted),
        statistic=ratio_of_sums,
    ),
    "lesion_f1": Quantity(
        title="lesion F1",
        unit="",
        among="all",
        of_case=lambda o: (o.lesions_found + o.lesions_true, o.lesions_reference + o.lesions_predicted),
        statistic=ratio_of_sums,
    ),
    "false_volume_mm3": Quantity(
        title="false volume", unit="mm³", among="free", of_case=lambda o: o.predicted_mm3, better="lower"
    ),
    "false_volume_p95_mm3": Quantity(
        title="false volume, 95th percentile",
        unit="mm³",
        among="free",
        of_case=lambda o: o.predicted_mm3,
        statistic=percentile_95,
        better="lower",
    ),
    "specificity": Quantity(title="specificity", unit="", among="free", of_case=lambda o: float(o.predicted_mm3 == 0)),
}
"""By name, as in `summary.json`. `volume` and Δ compare with the rule's annotation on the acquired slices."""

PAIRED = (
    "dice",
    "precision",
    "recall",
    "surface_dice",
    "hd95_mm",
    "betti_error",
    "volume_error_mm3",
    "volume_error_all_mm3",
    "lesion_sensitivity",
    "lesion_precision",
    "lesion_f1",
)
"""Quantities whose difference between two models is given with its interval."""

OVER_LABELS = ("dice", "precision", "recall", "volume_error_mm3", "hd95_mm", "betti_error")
"""Quantities that are averaged over labels where there are several."""
