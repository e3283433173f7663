"""The threshold at which predicted volume agrees best with annotated volume on the development cases.

A network trained on overlap under-segments at probability 0.5; the clinical quantity is a volume, so the threshold is
chosen for the volume. The volume at all thresholds is one weighted histogram per case.

Source: Jin et al. 2025 (arXiv 2507.01744), "calibration": threshold minimising the volume difference on development.
Differs: the paper does not say whether the difference is absolute or signed, so the objective is named (default: mean
absolute), and the spread of the threshold over resampled patients is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

from apatite.core.errors import ConfigError, DataError
from apatite.core.registry import nearest
from apatite.metrics.bootstrap import draw_patients, rows_by_patient

Objective = Literal["mae", "bias0", "log_mae"]

MIN_CASES = 5
"""Fewer development patients say nothing about a threshold, however many series they have."""


def _logit_spaced(count: int, edge: float) -> Float64[np.ndarray, "thresholds"]:
    """From `edge` to 1 − `edge`, evenly in the logit; the middle one is exactly 0.5."""
    half = np.log(edge / (1 - edge)) * np.arange(count // 2, 0, -1) / (count // 2)
    lower = 1 / (1 + np.exp(-half))
    grid = np.concatenate([lower, [0.5], 1 - lower[::-1]])
    grid.setflags(write=False)
    return grid


THRESHOLDS = _logit_spaced(181, 0.01)
"""Candidate thresholds, 0.01 to 0.99."""

_AT_HALF = len(THRESHOLDS) // 2


@dataclass(frozen=True, kw_only=True)
class ThresholdFit:
    """A chosen threshold, what it gained on the cases it was chosen on, and how firm it is.

    Attributes:
        threshold: The choice; probability ≥ threshold is calcium.
        objective: `mae` (mean |ΔV|), `bias0` (|mean ΔV|) or `log_mae` (mean |ln((V̂ + 1) / (V + 1))|).
        error_before_mm3: Mean |ΔV| at 0.5, whatever the objective.
        error_after_mm3: Mean |ΔV| at the choice. On the cases it was fitted on, so it flatters.
        objective_before: The objective at 0.5, in its own unit (mm³; a log ratio for `log_mae`).
        objective_after: The objective at the choice.
        num_cases: Development cases.
        resampled_thresholds: The choice for each resample of patients.
        low: 2.5th percentile of those.
        high: 97.5th percentile.
    """

    threshold: float
    objective: Objective
    error_before_mm3: float
    error_after_mm3: float
    objective_before: float
    objective_after: float
    num_cases: int
    resampled_thresholds: tuple[float, ...]
    low: float
    high: float

    def __post_init__(self) -> None:
        _known_objective(self.objective)
        if not 0 < self.threshold < 1:
            raise ConfigError(f"a threshold of {self.threshold} is not between 0 and 1", fix="fit it again")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON."""
        return {**asdict(self), "resampled_thresholds": list(self.resampled_thresholds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ThresholdFit":
        """Inverse of `to_dict`; further keys are left alone."""
        known = {field.name: values[field.name] for field in fields(cls)}
        return cls(**{**known, "resampled_thresholds": tuple(known["resampled_thresholds"])})


def volume_curve(
    probability: Shaped[np.ndarray, "slices rows columns"],
    voxel_mm3_per_slice: Float[np.ndarray, "slices"],
    is_counted: Bool[np.ndarray, "slices rows columns"],
    thresholds: Float[np.ndarray, "thresholds"] = THRESHOLDS,
) -> Float64[np.ndarray, "thresholds"]:
    """Volume at every threshold: Σ voxel volume over counted voxels with probability ≥ threshold.

    Args:
        probability: On the original slices: a float in 0…1, or an unsigned integer that stands for value / maximum
            of its type.
        voxel_mm3_per_slice: Volume that one pixel of each slice stands for (slice weight × pixel area).
        is_counted: Pixels that may count: the region, and perhaps only those of at least 130 HU.
        thresholds: Ascending.

    Returns:
        mm³, never increasing along the thresholds. Voxels are counted as whole numbers before they are weighted.

    Raises:
        DataError: a probability is not a number (`NONFINITE`).
        ValueError: thresholds that do not ascend.
    """
    if np.any(np.diff(thresholds) <= 0):
        raise ValueError("thresholds must ascend")
    num_slices, num_bins = probability.shape[0], len(thresholds) + 1
    slice_of = np.nonzero(is_counted)[0]
    passed = _num_thresholds_passed(probability[is_counted], thresholds)
    counts = np.bincount(slice_of * num_bins + passed, minlength=num_slices * num_bins).reshape(num_slices, num_bins)
    at_least = np.cumsum(counts[:, ::-1], axis=1)[:, -2::-1]
    # A product and a sum row by row, not a matrix product: the same order in every column keeps the curve monotone.
    return (voxel_mm3_per_slice.astype(np.float64)[:, None] * at_least).sum(axis=0)


def fit_threshold(
    curves_mm3: Float[np.ndarray, "cases thresholds"],
    reference_mm3: Float[np.ndarray, "cases"],
    patients: Sequence[str],
    objective: Objective = "mae",
    resamples: int = 1000,
    seed: int = 0,
) -> ThresholdFit:
    """Choose the threshold, and choose it again for every resample of patients.

    Among thresholds that are equally good, the one nearest to 0.5 is taken. Whether calcium-free cases take part is
    the caller's choice: they are rows like any other.

    Args:
        curves_mm3: `volume_curve` of each development case at `THRESHOLDS`.
        reference_mm3: Annotated volume of each.
        patients: The patient of each; resampled as a whole.
        objective: What to minimise.
        resamples: How many.
        seed: Names the draws.

    Raises:
        ConfigError: an unknown objective.
        DataError: fewer than five patients (`TOO_FEW_CASES`) or a volume that is not finite (`NONFINITE`).
        ValueError: lengths that do not fit.
    """
    _check_fit(curves_mm3, reference_mm3, patients, objective)
    difference = _differences(curves_mm3, reference_mm3, objective)
    weights = _resample_weights(patients, resamples, seed)
    everyone = np.full((1, len(patients)), 1 / len(patients))
    losses = _losses(everyone, difference, objective)
    best = int(_nearest_to_half(losses)[0])
    resampled = THRESHOLDS[_nearest_to_half(_losses(weights, difference, objective))]
    error_mm3 = np.abs(curves_mm3 - reference_mm3[:, None]).mean(axis=0)
    low, high = np.percentile(resampled, [2.5, 97.5]) if resamples else (np.nan, np.nan)
    return ThresholdFit(
        threshold=float(THRESHOLDS[best]),
        objective=objective,
        error_before_mm3=float(error_mm3[_AT_HALF]),
        error_after_mm3=float(error_mm3[best]),
        objective_before=float(losses[0, _AT_HALF]),
        objective_after=float(losses[0, best]),
        num_cases=len(reference_mm3),
        resampled_thresholds=tuple(float(value) for value in resampled),
        low=float(low),
        high=float(high),
    )


def _num_thresholds_passed(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many thresholds each value reaches, compared as float64."""
    if np.issubdtype(values.dtype, np.unsignedinteger) and values.dtype.itemsize <= 2:
        largest = int(np.iinfo(values.dtype).max)
        return np.searchsorted(thresholds, np.arange(largest + 1) / largest, side="right")[values]
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"a probability is a float or an unsigned integer of 8 or 16 bits, not {values.dtype}")
    # NaN sorts after every threshold and would count as calcium everywhere.
    if np.isnan(values).any():
        raise DataError("a probability is not a number", fix="predict that case again", code="NONFINITE")
    return np.searchsorted(thresholds, values.astype(np.float64), side="right")


def _check_fit(curves_mm3: np.ndarray, reference_mm3: np.ndarray, patients: Sequence[str], objective: str) -> None:
    _known_objective(objective)
    if curves_mm3.shape != (len(reference_mm3), len(THRESHOLDS)) or len(patients) != len(reference_mm3):
        raise ValueError(
            f"curves {curves_mm3.shape} do not fit {len(reference_mm3)} references and {len(patients)} patients"
        )
    if len(set(patients)) < MIN_CASES:
        raise DataError(
            f"a threshold needs at least {MIN_CASES} development patients, got {len(set(patients))}",
            fix="annotate more development patients, or keep the calcium-free ones",
            code="TOO_FEW_CASES",
        )
    if not (np.isfinite(curves_mm3).all() and np.isfinite(reference_mm3).all()):
        raise DataError(
            "a development volume is not a finite number",
            fix="leave that case out or measure it again",
            code="NONFINITE",
        )


def _known_objective(objective: str) -> None:
    names = list(get_args(Objective))
    if objective not in names:
        raise ConfigError(f"unknown objective {objective!r}", fix=nearest(objective, names))


def _differences(
    curves_mm3: np.ndarray, reference_mm3: np.ndarray, objective: Objective
) -> Float64[np.ndarray, "cases thresholds"]:
    """What each case adds to the objective, per threshold."""
    if objective == "log_mae":
        return np.abs(np.log1p(curves_mm3) - np.log1p(reference_mm3)[:, None])
    difference = curves_mm3.astype(np.float64) - reference_mm3[:, None]
    return difference if objective == "bias0" else np.abs(difference)


def _losses(
    weights: np.ndarray, difference: np.ndarray, objective: Objective
) -> Float64[np.ndarray, "resamples thresholds"]:
    means = weights @ difference
    return np.abs(means) if objective == "bias0" else means


def _nearest_to_half(losses: np.ndarray) -> np.ndarray:
    """Index of the least loss per row; ties, to within rounding, go to the threshold nearest to 0.5."""
    least = losses.min(axis=1, keepdims=True)
    is_tied = losses <= least + 1e-9 * np.maximum(least, 1.0)
    from_half = np.abs(np.arange(losses.shape[1]) - _AT_HALF)
    return np.argmin(np.where(is_tied, from_half, losses.shape[1]), axis=1)


def _resample_weights(patients: Sequence[str], resamples: int, seed: int) -> Float64[np.ndarray, "resamples cases"]:
    """Share of each case in each resample of patients."""
    groups = rows_by_patient(patients)
    draws = draw_patients(len(groups), resamples, seed)
    offset = np.arange(resamples)[:, None] * len(groups)
    times = np.bincount((draws + offset).ravel(), minlength=resamples * len(groups)).reshape(resamples, len(groups))
    patient_of = np.empty(len(patients), dtype=np.int64)
    for number, rows in enumerate(groups):
        patient_of[rows] = number
    weights = times[:, patient_of].astype(np.float64)
    return weights / weights.sum(axis=1, keepdims=True)
