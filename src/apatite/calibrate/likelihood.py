"""Where the annotations of development cases are most likely, over temperature, slope and offset; and how firm that is.

    NLL = Σ over patients of the mean over voxels of  ln(1 + exp(u)) − y · u,   u = logit / exp(ln T + b · x) + c

Source: Platt 1999 (temperature and offset by maximum likelihood).
Differs: targets are 0 and 1, not smoothed; a resample of patients is not fitted anew, but takes one step of Fisher
scoring from the fit.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize
from scipy.special import expit

from apatite.calibrate.logit_histogram import PooledLogits
from apatite.calibrate.reliability import times_drawn
from apatite.metrics.bootstrap import rows_by_patient

TEMPERATURES: Final = (0.1, 10.0)
"""What is searched; a fit at an end says that the cases are told apart perfectly, or not at all."""
MAX_OFFSET: Final = 10.0
MAX_SLOPE: Final = 2.0

_LOG_TEMPERATURES: Final = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
_IS_MARKED: Final = np.array([[0.0], [1.0]])
"""Of the two rows of a histogram."""

Parameters = tuple[float, float, float]
"""The logarithm of T, slope, offset."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Which parameters are searched.

    Attributes:
        has_slope: Whether the temperature may depend on the thickness.
        has_offset: Whether there is an offset.
    """

    has_slope: bool
    has_offset: bool

    def of(self, *, has_slope: bool) -> list[tuple[float, float]]:
        """Least and largest value of each parameter."""
        slope, offset = MAX_SLOPE * has_slope, MAX_OFFSET * self.has_offset
        return [_LOG_TEMPERATURES, (-slope, slope), (-offset, offset)]


def most_likely(
    pooled: PooledLogits, log_thickness: Float64[np.ndarray, "cases"], prior_patients: float, bounds: Bounds
) -> Parameters:
    """The parameters at the minimum of NLL + ½ · (prior patients / patients) · (information on ln T) · slope².

    Args:
        pooled: The cases.
        log_thickness: Of each; what the slope is multiplied by.
        prior_patients: See above.
        bounds: What may vary.
    """
    information = _information(pooled, 0.0, 0.0)
    without = _minimum(pooled, log_thickness, (0.0, 0.0, 0.0), information, 0.0, bounds.of(has_slope=False))
    if not bounds.has_slope or without[0] in _LOG_TEMPERATURES:
        return without
    information = _information(pooled, without[0], without[2])
    ridge = prior_patients / pooled.num_patients
    return _minimum(pooled, log_thickness, without, information, ridge, bounds.of(has_slope=True))


def _information(pooled: PooledLogits, log_temperature: float, offset: float) -> float:
    """The mean curvature of the NLL along ln T."""
    scaled = pooled.logit / math.exp(log_temperature)
    return float((pooled.weight * scaled**2 * expit(scaled + offset) * expit(-scaled - offset)).sum())


def _minimum(
    pooled: PooledLogits,
    log_thickness: Float64[np.ndarray, "cases"],
    start: Parameters,
    information: float,
    ridge: float,
    bounds: list[tuple[float, float]],
) -> Parameters:
    """Where the NLL is least. At a fixed slope it is convex in (1 / T, c), so there is one minimum."""

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = likelihood_loss(pooled, log_thickness, at)
        # Divided by the information, so that the tolerance is one of ln T, whatever the scale of the loss.
        drawn = np.array([0.0, ridge * at[1], 0.0])
        return value / information + ridge / 2 * at[1] ** 2, gradient / information + drawn

    options = {"ftol": 0.0, "gtol": 1e-9, "maxiter": 1000}
    found = minimize(loss, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    log_temperature, slope, offset = found.x.tolist()
    return log_temperature, slope, offset


def likelihood_loss(
    pooled: PooledLogits, log_thickness: Float64[np.ndarray, "cases"], at: Float64[np.ndarray, "3"]
) -> tuple[float, Float64[np.ndarray, "3"]]:
    """NLL summed over patients, and its gradient by ln T, slope and offset."""
    scaled = pooled.logit / np.exp(at[0] + at[1] * log_thickness)[:, None, None]
    logits = scaled + at[2]
    value = float((pooled.weight * (np.logaddexp(0.0, logits) - _IS_MARKED * logits)).sum())
    error = pooled.weight * (expit(logits) - _IS_MARKED)
    by_temperature = -(error * scaled).sum(axis=(1, 2))
    return value, np.array([by_temperature.sum(), by_temperature @ log_thickness, error.sum()])


def spread(
    pooled: PooledLogits,
    log_thickness: Float64[np.ndarray, "cases"],
    best: Parameters,
    bounds: Bounds,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """2.5th and 97.5th percentile of ln T over resampled patients: from the fit, one step of Fisher scoring each.

    Args:
        pooled: The cases.
        log_thickness: Of each.
        best: What `most_likely` found.
        bounds: As it was found; the slope is held.
        resamples: How many.
        seed: Names the draws.
    """
    scaled = pooled.logit / np.exp(best[0] + best[1] * log_thickness)[:, None, None]
    probability = expit(scaled + best[2])
    error, variance = pooled.weight * (probability - _IS_MARKED), pooled.weight * probability * (1 - probability)
    gradient = np.stack([-(error * scaled).sum(axis=(1, 2)), error.sum(axis=(1, 2))], axis=1)
    cross = -(variance * scaled).sum(axis=(1, 2))
    curvature = np.stack([(variance * scaled**2).sum(axis=(1, 2)), cross, cross, variance.sum(axis=(1, 2))], axis=1)
    used = 2 if bounds.has_offset else 1
    groups = rows_by_patient(pooled.patients)
    times = times_drawn(len(groups), resamples, seed)
    of_gradient = times @ np.stack([gradient[rows].sum(axis=0) for rows in groups])
    of_curvature = (times @ np.stack([curvature[rows].sum(axis=0) for rows in groups])).reshape(-1, 2, 2)
    # Where a resample tells nothing of a parameter, this little keeps the matrix regular.
    tiny = 1e-9 * np.trace(of_curvature, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    step = np.linalg.solve((of_curvature + tiny)[:, :used, :used], of_gradient[:, :used, None])[:, 0, 0]
    low, high = np.percentile(np.clip(best[0] - step, *_LOG_TEMPERATURES), [2.5, 97.5])
    return float(low), float(high)
