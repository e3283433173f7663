"""Make a network's probabilities mean what they say: its logits are divided by a temperature and moved by an offset.

    p_calibrated = σ(logit(p) / T + c),   T, c = argmin of the mean negative log-likelihood on development

T > 1 takes back overconfidence; c < 0 takes back the generosity of a network that was trained to overlap, which calls
half of a rim calcium of which a fifth is. The order of the voxels does not change, so the decision at a threshold that
was chosen before is the same; what changes is what a probability, and a sum of probabilities, says. Thick slices blur,
so T may depend on the slice thickness: ln T = ln T₀ + b · ln(thickness / 3 mm).

Source: Guo et al. 2017, arXiv 1706.04599 (temperature scaling); Platt 1999 (the offset).
Differs: p is blended from windows and averaged over the thickness of a slice, and it is the logit of that which is
scaled, so any model that gives probabilities can be calibrated, also one whose logits are not known. Voxels come from
the band around lesions (`logit_histogram.lesion_band`), every patient counts alike, and the dependence on thickness is
drawn towards none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import expit

from apatite.calibrate.likelihood import MAX_OFFSET, MAX_SLOPE, TEMPERATURES, Bounds, most_likely, spread
from apatite.calibrate.logit_histogram import LogitHistogram, PooledLogits, Scale, logit_of, pool
from apatite.calibrate.scores import scores
from apatite.calibrate.thickness import thickness_group
from apatite.calibrate.threshold import MIN_CASES
from apatite.core.errors import ConfigError, DataError

THICKNESS_MM: Final = 3.0
"""At this thickness, and where the thickness is unknown, `temperature` itself holds."""
PRIOR_PATIENTS: Final = 5.0
"""The dependence on thickness is fitted as if so many patients more had shown none."""


@dataclass(frozen=True, kw_only=True)
class TemperatureFit:
    """A fitted temperature, and what it changed on the cases it was fitted on.

    Attributes:
        temperature: T at a slice thickness of 3 mm.
        offset: c, the same for every thickness; 0 where only a temperature was fitted.
        slope: b; 0 where the temperature does not depend on the thickness.
        seen_mm: Thinnest and thickest slices that it was fitted on; beyond them the nearer end holds.
        nll_before: Mean negative log-likelihood of a voxel in nats, of the probabilities as given.
        nll_after: The same after scaling. On the cases it was fitted on, so it flatters, as all that follows.
        ece_before: Expected calibration error as given.
        ece_after: After scaling.
        brier_before: Brier score as given.
        brier_after: After scaling.
        num_voxels: In the band.
        num_cases: Cases with at least one voxel there.
        low: 2.5th percentile of the temperature over resampled patients, the slope held; of each resample by one
            step of Fisher scoring.
        high: 97.5th percentile.
    """

    temperature: float
    offset: float = 0.0
    slope: float
    seen_mm: tuple[float, float]
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    brier_before: float
    brier_after: float
    num_voxels: int
    num_cases: int
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = [value for value in asdict(self).values() if not isinstance(value, tuple)]
        is_finite = all(math.isfinite(number) for number in (*numbers, *self.seen_mm))
        is_inside = all(TEMPERATURES[0] <= edge <= TEMPERATURES[1] for edge in (self.temperature, self.low, self.high))
        is_order = 0 < self.seen_mm[0] <= self.seen_mm[1]
        is_small = abs(self.slope) <= MAX_SLOPE and abs(self.offset) <= MAX_OFFSET
        if not is_finite or not is_inside or not is_order or not is_small:
            raise ConfigError(
                f"a temperature of {self.temperature} with slope {self.slope} and offset {self.offset} "
                f"for slices of {self.seen_mm} mm "
                "is impossible",
                fix="fit it again",
            )

    def at(self, thickness_mm: float | None) -> float:
        """The temperature at a slice thickness."""
        return math.exp(math.log(self.temperature) + self.slope * _log_thickness(thickness_mm, self.seen_mm))

    def scale(self, thickness_mm: float | None) -> Scale:
        """Temperature at a slice thickness, and offset."""
        return Scale(self.at(thickness_mm), self.offset)

    def calibrated(
        self, probability: Float[np.ndarray, "*voxels"], thickness_mm: float | None
    ) -> Float64[np.ndarray, "*voxels"]:
        """What a probability means: never decreasing, and between 0 and 1 also at 0 and 1."""
        return np.asarray(expit(logit_of(probability) / self.at(thickness_mm) + self.offset))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON."""
        return {**asdict(self), "seen_mm": list(self.seen_mm)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TemperatureFit":
        """Inverse of `to_dict`; further keys are left alone.

        Raises:
            ConfigError: values that no fit has.
            KeyError, TypeError, ValueError, ArithmeticError: values of another form.
        """
        thinnest, thickest = values["seen_mm"]
        known = {field.name: values[field.name] for field in fields(cls)}
        return cls(**{**known, "seen_mm": (thinnest, thickest)})


def fit_temperature(  # noqa: PLR0913 - the cases, and how; the rest by name
    histograms: Sequence[LogitHistogram],
    patients: Sequence[str],
    thickness_mm: Sequence[float | None],
    resamples: int = 1000,
    seed: int = 0,
    *,
    prior_patients: float = PRIOR_PATIENTS,
    has_offset: bool = True,
) -> TemperatureFit:
    """Fit temperature and offset of one label.

    The dependence on thickness is fitted where at least two groups of slice thickness have `MIN_CASES` cases each; its
    slope is drawn towards 0 as by `prior_patients` more patients.

    Args:
        histograms: One per development case.
        patients: The patient of each; every patient counts alike, and is resampled as a whole.
        thickness_mm: Slice thickness of each; unknown ones count as 3 mm.
        resamples: How many.
        seed: Names the draws.
        prior_patients: See above; infinity leaves the slope at 0.
        has_offset: False for a temperature alone.

    Raises:
        DataError: fewer than five cases hold a voxel, or none is marked (`TOO_FEW_CASES`).
        ValueError: lengths that do not fit.
    """
    if len(thickness_mm) != len(histograms):
        raise ValueError(f"{len(thickness_mm)} slice thicknesses for {len(histograms)} cases")
    pooled = pool(histograms, patients)
    _require_enough(pooled)
    thickness = [thickness_mm[row] for row in pooled.rows.tolist()]
    seen_mm = _seen(thickness)
    log_thickness = np.array([_log_thickness(mm, seen_mm) for mm in thickness])
    bounds = Bounds(
        has_slope=_may_depend(thickness, pooled.patients) and math.isfinite(prior_patients), has_offset=has_offset
    )
    best = most_likely(pooled, log_thickness, prior_patients, bounds)
    low, high = spread(pooled, log_thickness, best, bounds, resamples, seed) if resamples else (best[0], best[0])
    scales = [Scale(math.exp(best[0] + best[1] * x), best[2]) for x in log_thickness.tolist()]
    before, after = scores(pooled, [Scale(1.0)] * len(scales)), scores(pooled, scales)
    return TemperatureFit(
        temperature=_inside(math.exp(best[0])),
        offset=best[2],
        slope=best[1],
        seen_mm=seen_mm,
        nll_before=before.nll,
        nll_after=after.nll,
        ece_before=before.ece,
        ece_after=after.ece,
        brier_before=before.brier,
        brier_after=after.brier,
        num_voxels=pooled.num_voxels,
        num_cases=len(scales),
        low=_inside(math.exp(low)),
        high=_inside(math.exp(high)),
    )


def _require_enough(pooled: PooledLogits) -> None:
    if pooled.num_patients < MIN_CASES or not pooled.weight[:, 1].any():
        raise DataError(
            f"a temperature needs at least {MIN_CASES} development patients and something marked in them, "
            f"got {pooled.num_patients}",
            fix="annotate more development patients",
            code="TOO_FEW_CASES",
        )


def _seen(thickness_mm: Sequence[float | None]) -> tuple[float, float]:
    known = [mm for mm in thickness_mm if mm is not None and mm > 0]
    return (min(known), max(known)) if known else (THICKNESS_MM, THICKNESS_MM)


def _log_thickness(thickness_mm: float | None, seen_mm: tuple[float, float]) -> float:
    """ln(thickness / 3 mm) within what was seen; 0 where it is unknown."""
    if thickness_mm is None or not thickness_mm > 0:
        return 0.0
    return math.log(min(max(thickness_mm, seen_mm[0]), seen_mm[1]) / THICKNESS_MM)


def _inside(temperature: float) -> float:
    """At an end of the search, rounding must not lead beyond it."""
    return min(max(temperature, TEMPERATURES[0]), TEMPERATURES[1])


def _may_depend(thickness_mm: Sequence[float | None], patients: Sequence[str]) -> bool:
    """Whether two groups of thickness have enough patients each."""
    of_group: dict[str, set[str]] = {}
    for mm, patient in zip(thickness_mm, patients, strict=True):
        of_group.setdefault(thickness_group(mm), set()).add(patient)
    return sum(name != "" and len(found) >= MIN_CASES for name, found in of_group.items()) >= 2
