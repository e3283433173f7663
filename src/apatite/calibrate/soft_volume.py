"""Volume as the sum of calibrated probabilities: what is expected to be there, without a threshold.

    V_soft = Σ over slices  w_k · pixel area · Σ over voxels of the slice  p_calibrated

Where probabilities mean what they say, V_soft is right on average for every kind of case, and the line through
(V_soft, V) has slope 1 and intercept 0. It is as good as the calibration of the probabilities, and as the part that is
summed: where a gate leaves out voxels that had some probability, those that remain had too little, and the gated sum is
too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from apatite.calcium.measure import slice_weights_mm
from apatite.calibrate.reliability import ScoreConfig
from apatite.calibrate.temperature import TemperatureFit
from apatite.core.scan import SliceStack
from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import bootstrap_interval


@dataclass(frozen=True, kw_only=True)
class SoftAgreement:
    """The least-squares line V = intercept + slope · V_soft over cases.

    Attributes:
        slope: 1 where soft volumes are right; below 1 where large ones are too large.
        intercept: 0 where they are right, in mm³.
        num_cases: Cases.
    """

    slope: Estimate
    intercept: Estimate
    num_cases: int


def soft_volume_mm3(
    probability: Float[np.ndarray, "slices rows columns"],
    is_summed: Bool[np.ndarray, "slices rows columns"],
    stack: SliceStack,
    fit: TemperatureFit,
    thickness_mm: float | None,
) -> float:
    """The soft volume of one case.

    Args:
        probability: Of the label, as the model gives it.
        is_summed: Which voxels count. Not the whole region: a millionth at each of a million voxels is a voxel, and
            the temperature was not fitted on brain.
        stack: The original slices.
        fit: The label's temperature.
        thickness_mm: Of the slices; `None` where it is unknown.

    Raises:
        ValueError: an array does not fit the slices.
    """
    if not probability.shape == is_summed.shape == stack.shape:
        raise ValueError(f"probability {probability.shape} does not fit the slices {stack.shape}")
    calibrated = fit.calibrated(probability[is_summed], thickness_mm)
    of_slice = np.bincount(np.nonzero(is_summed)[0], calibrated, minlength=stack.shape[0])
    return float(of_slice @ slice_weights_mm(stack)) * stack.pixel_mm2


def soft_agreement(
    soft_mm3: Float[np.ndarray, "cases"],
    reference_mm3: Float[np.ndarray, "cases"],
    patients: Sequence[str],
    config: ScoreConfig | None = None,
) -> SoftAgreement:
    """Slope and intercept of V on V_soft, with intervals by patient.

    Args:
        soft_mm3: Soft volume of each case.
        reference_mm3: Annotated volume of each.
        patients: The patient of each.
        config: How intervals are computed.

    Returns:
        NaN where the soft volumes are all equal, or there are fewer than two cases.
    """
    settings = config or ScoreConfig()
    rows = np.stack([soft_mm3, reference_mm3], axis=1).astype(np.float64)

    def estimate(which: int, unit: str) -> Estimate:
        return bootstrap_interval(
            rows,
            lambda chosen: _line(chosen)[which],
            patients,
            resamples=settings.resamples,
            method=settings.method,
            coverage=settings.coverage,
            seed=settings.seed,
            unit=unit,
        )

    return SoftAgreement(slope=estimate(0, ""), intercept=estimate(1, "mm³"), num_cases=len(rows))


def _line(rows: Float64[np.ndarray, "cases 2"]) -> tuple[float, float]:
    """Slope and intercept by least squares; NaN where the first column does not vary."""
    soft, reference = rows.T
    spread = float(((soft - soft.mean()) ** 2).sum()) if len(rows) > 1 else 0.0
    if spread == 0:
        return np.nan, np.nan
    slope = float(((soft - soft.mean()) * (reference - reference.mean())).sum()) / spread
    return slope, float(reference.mean() - slope * soft.mean())
