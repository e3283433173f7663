"""One setting of the bootstrap for a whole evaluation, so that every interval in a report means the same.

Source: Jin et al. 2025 (arXiv 2507.01744): 1,000 resamples, percentile.
Differs: BCa is the default; `method="percentile"` gives the paper's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Num

from apatite.core.errors import ConfigError
from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import Statistic, bootstrap_interval, paired_difference


@dataclass(frozen=True, kw_only=True)
class IntervalConfig:
    """How intervals are computed.

    Attributes:
        resamples: Of the patients.
        method: `bca` or `percentile`.
        coverage: Of the two-sided interval.
        seed: Of the draws; the same draws serve every quantity and every model.
    """

    resamples: int = 1000
    method: Literal["bca", "percentile"] = "bca"
    coverage: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        # Said before an hour of predictions, not after it.
        if self.resamples < 1 or not 0 < self.coverage < 1:
            raise ConfigError(
                f"{self.resamples} resamples at coverage {self.coverage} give no interval",
                fix="use at least one resample and a coverage between 0 and 1",
            )


MIN_PATIENTS: Final = 5
"""Of fewer, an interval is far too narrow for a verdict."""
STANDARD = IntervalConfig()
"""What is used where nothing else is asked for."""


def interval(
    values: Num[np.ndarray, "cases *columns"],
    statistic: Statistic,
    patients: Sequence[str],
    config: IntervalConfig,
    unit: str = "",
) -> Estimate:
    """A statistic over cases with its interval by patient."""
    return bootstrap_interval(
        values.astype(np.float64),
        statistic,
        patients,
        resamples=config.resamples,
        method=config.method,
        coverage=config.coverage,
        seed=config.seed,
        unit=unit,
    )


def difference(
    a: Num[np.ndarray, "cases *columns"],
    b: Num[np.ndarray, "cases *columns"],
    statistic: Statistic,
    patients: Sequence[str],
    config: IntervalConfig,
    unit: str = "",
) -> Estimate:
    """The statistic of `a` minus that of `b` on the same resamples of patients."""
    return paired_difference(
        a.astype(np.float64),
        b.astype(np.float64),
        statistic,
        patients,
        resamples=config.resamples,
        method=config.method,
        coverage=config.coverage,
        seed=config.seed,
        unit=unit,
    )
