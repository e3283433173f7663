"""The line between predicted and annotated volume on the scale ln(V + 1), and a volume corrected by it.

    ln(V + 1) = intercept + slope · ln(V̂ + 1),    least squares over cases

Slope 1 and intercept 0 mean that small and large volumes are right on average. A line that is fitted on one site says
how that site's volumes lie; it changes no voxel, so a corrected volume is no longer that of the label map.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class BiasLine:
    """A fitted line.

    Attributes:
        slope: 1 where the ratio of the volumes does not depend on their size.
        intercept: ln of the ratio of (V + 1) at a predicted volume of 0.
        num_cases: Cases that it was fitted on.
    """

    slope: float
    intercept: float
    num_cases: int

    def corrected(self, volume_mm3: float) -> float:
        """The annotated volume to be expected, in mm³; where nothing was found, nothing is added."""
        if volume_mm3 <= 0:
            return 0.0
        return max(0.0, math.expm1(self.intercept + self.slope * math.log1p(volume_mm3)))


def line_of(pairs_mm3: Float[np.ndarray, "cases 2"]) -> tuple[float, float]:
    """Slope and intercept of a table of predicted and annotated volumes; slope 1 where all predictions are equal."""
    x, y = np.log1p(pairs_mm3).T
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 1.0
    return slope, float(y.mean() - slope * x.mean())


def fit_bias_line(predicted_mm3: Float[np.ndarray, "cases"], reference_mm3: Float[np.ndarray, "cases"]) -> BiasLine:
    """The line of some cases.

    Raises:
        ValueError: no case, or lengths that do not fit.
    """
    if len(predicted_mm3) != len(reference_mm3) or len(predicted_mm3) == 0:
        raise ValueError(f"{len(predicted_mm3)} predicted volumes for {len(reference_mm3)} references")
    slope, intercept = line_of(np.column_stack([predicted_mm3, reference_mm3]).astype(np.float64))
    return BiasLine(slope=slope, intercept=intercept, num_cases=len(predicted_mm3))
