"""Whether a probability means what it says: of the voxels that are given 0.7, are seven in ten calcium?

The numbers of `calibrate.scores` with intervals by patient, and the curve of a reliability diagram, over the voxels of
`logit_histogram.lesion_band`. Even there most voxels are bone to which every model gives next to nothing, so the ECE is
also given without them.

Differs: bins are laid once, by all patients, and kept for every resample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float64

from apatite.calibrate.logit_histogram import BAND_PROBABILITY, CENTRES, LogitHistogram, Scale, logit_of, pool
from apatite.calibrate.scores import NUM_BINS, ScoredCases, ace, bin_sums, ece, equal_weight
from apatite.core.errors import DataError
from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import Method, Statistic, bootstrap_interval, draw_patients, mean

CURVE_BINS: Final = 10
"""Of the diagram, of equal width: bins of equal weight nearly all lie close to 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliabilityCurve:
    """One point per bin; NaN where a bin is empty.

    Attributes:
        confidence: Mean probability.
        frequency: Share that the reference marks.
        low: Lower end of the 95 % interval of that share, over resampled patients.
        high: Its upper end.
        share: Share of the weight that lies in the bin.
    """

    confidence: Float64[np.ndarray, "bins"]
    frequency: Float64[np.ndarray, "bins"]
    low: Float64[np.ndarray, "bins"]
    high: Float64[np.ndarray, "bins"]
    share: Float64[np.ndarray, "bins"]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How intervals of scores are computed.

    Attributes:
        resamples: Of the patients.
        method: Of Brier score and NLL. The interval of ECE and ACE is always `percentile`: they are never negative and
            resampling can only raise them where a model is nearly right, which BCa takes for a huge bias.
        coverage: Of the two-sided intervals.
        seed: Of the draws.
    """

    resamples: int = 1000
    method: Method = "bca"
    coverage: float = 0.95
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """How reliable the probabilities of one label are.

    Attributes:
        ece: Expected calibration error.
        ece_found: The same over voxels to which the model itself, before it is scaled, gives at least 1 %; NaN where
            there is none.
        ace: Adaptive calibration error; over several labels see `classwise_ace`.
        brier: Brier score.
        nll: Negative log-likelihood, in nats.
        curve: For the diagram, in bins of equal width.
        prevalence: Share of the weight that the reference marks.
        num_cases: Cases with at least one voxel.
        num_patients: Their patients.
    """

    ece: Estimate
    ece_found: Estimate
    ace: Estimate
    brier: Estimate
    nll: Estimate
    curve: ReliabilityCurve
    prevalence: float
    num_cases: int
    num_patients: int


def reliability(
    histograms: Sequence[LogitHistogram],
    patients: Sequence[str],
    scales: Sequence[Scale | float],
    config: ScoreConfig | None = None,
) -> Reliability:
    """Scores with their intervals by patient, and the reliability curve.

    Args:
        histograms: One per case.
        patients: The patient of each.
        scales: Of each, or only its temperature; 1 for probabilities as they are.
        config: How intervals are computed.

    Raises:
        DataError: there is no voxel in any case (`NO_CASES`).
        ValueError: lengths that do not fit.
    """
    config = config or ScoreConfig()
    if len(scales) != len(histograms):
        raise ValueError(f"{len(scales)} scales for {len(histograms)} cases")
    pooled = pool(histograms, patients)
    if not pooled.patients:
        raise DataError(
            "no voxel could be this label, so its probability cannot be judged",
            fix="evaluate cases in which it occurs",
            code="NO_CASES",
        )
    of_cases = [scale if isinstance(scale, Scale) else Scale(scale) for scale in scales]
    cases = ScoredCases.of(pooled, [of_cases[row] for row in pooled.rows])
    found = pool([_found(histogram) for histogram in histograms], patients)
    kept = ScoredCases.of(found, [of_cases[row] for row in found.rows])
    errors = replace(config, method="percentile")
    return Reliability(
        ece=_error(cases, ece, errors),
        ece_found=_error(kept, ece, errors) if found.patients else _NOTHING,
        ace=_error(cases, ace, errors),
        brier=_over_patients(cases.brier, mean, config),
        nll=_over_patients(cases.nll, mean, config),
        curve=_curve(cases, config),
        prevalence=float(pooled.weight[:, 1].sum() / pooled.num_patients),
        num_cases=len(pooled.patients),
        num_patients=pooled.num_patients,
    )


_NOTHING = Estimate(value=np.nan, low=np.nan, high=np.nan, unit="", coverage=0.95)


def times_drawn(num_patients: int, resamples: int, seed: int) -> Float64[np.ndarray, "resamples patients"]:
    """How often each resample holds each patient; the draws of `metrics.bootstrap`."""
    draws = draw_patients(num_patients, resamples, seed) + np.arange(resamples)[:, None] * num_patients
    times = np.bincount(draws.ravel(), minlength=resamples * num_patients)
    return times.reshape(resamples, num_patients).astype(np.float64)


def classwise_ace(of_labels: Sequence[Reliability]) -> float:
    """The adaptive calibration error averaged over labels."""
    return float(np.mean([found.ace.value for found in of_labels]))


def _over_patients(rows: np.ndarray, statistic: Statistic, config: ScoreConfig) -> Estimate:
    return bootstrap_interval(
        rows,
        statistic,
        [str(number) for number in range(len(rows))],
        resamples=config.resamples,
        method=config.method,
        coverage=config.coverage,
        seed=config.seed,
    )


def _found(histogram: LogitHistogram) -> LogitHistogram:
    """Without the voxels to which the model gives next to nothing."""
    is_found = float(logit_of(np.array([BAND_PROBABILITY]))[0]) <= CENTRES
    return replace(histogram, weight_mm3=histogram.weight_mm3 * is_found)


def _error(cases: ScoredCases, statistic: Statistic, config: ScoreConfig) -> Estimate:
    """An error with an interval that holds it: resamples of what cannot be negative tend to lie above it."""
    estimate = _over_patients(cases.sums(equal_weight(cases, NUM_BINS), NUM_BINS), statistic, config)
    return replace(estimate, low=min(estimate.low, estimate.value), high=max(estimate.high, estimate.value))


def _curve(cases: ScoredCases, config: ScoreConfig) -> ReliabilityCurve:
    probability = cases.confidence / np.where(cases.weight > 0, cases.weight, 1.0)
    place = np.minimum((probability * CURVE_BINS).astype(np.int64), CURVE_BINS - 1)
    sums = cases.sums(place, CURVE_BINS)
    weight, confidence, marked = bin_sums(sums)
    low, high = _frequency_interval(sums, config)
    return ReliabilityCurve(
        confidence=_ratio(confidence, weight),
        frequency=_ratio(marked, weight),
        low=low,
        high=high,
        share=weight / weight.sum(),
    )


def _frequency_interval(sums: np.ndarray, config: ScoreConfig) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the frequency in every bin; NaN where most resamples have nothing there."""
    parts = (times_drawn(len(sums), config.resamples, config.seed) @ sums).reshape(config.resamples, -1, 3)
    frequency = _ratio(parts[..., 2], parts[..., 0])
    ends = np.full((2, frequency.shape[1]), np.nan)
    tails = [50 * (1 - config.coverage), 50 * (1 + config.coverage)]
    for column, found in enumerate(frequency.T):
        known = found[~np.isnan(found)]
        if len(sums) >= 2 and 2 * len(known) > len(found):
            ends[:, column] = np.percentile(known, tails)
    return ends[0], ends[1]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)
