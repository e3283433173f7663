"""A share of cases with its exact interval: how often an event came, and how often it may come in truth.

Source: Clopper and Pearson 1934.
"""

import math

from scipy.stats import beta

from apatite.core.volume import Estimate


def proportion(hits: int, cases: int, coverage: float = 0.95) -> Estimate:
    """`hits / cases` with the Clopper–Pearson interval; all NaN without cases.

    Args:
        hits: How often it came.
        cases: How often it could have come; they must be independent, so one per patient.
        coverage: Of the two-sided interval, which holds at least that often.

    Raises:
        ValueError: more hits than cases, or a negative number.
    """
    if not 0 <= hits <= cases:
        raise ValueError(f"{hits} of {cases} is no share")
    if cases == 0:
        return Estimate(value=math.nan, low=math.nan, high=math.nan, unit="", coverage=coverage)
    tail = (1 - coverage) / 2
    low = float(beta.ppf(tail, hits, cases - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, cases - hits)) if hits < cases else 1.0
    return Estimate(value=hits / cases, low=low, high=high, unit="", coverage=coverage)
