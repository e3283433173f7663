"""How well probabilities are calibrated, of cases that are kept as histograms of their logits.

    ECE   = Σ_b (weight of bin b) · |frequency_b − confidence_b|     15 bins of equal weight
    ACE   = mean over bins (and over labels) of |frequency_b − confidence_b|
    Brier = mean of (p − y)²,  NLL = mean of −ln(probability of what is the case)

over voxels by their volume within a patient, and every patient alike.

Source: Naeini et al. 2015 (expected calibration error); Nguyen & O'Connor 2015 (bins of equal weight); Nixon et al.
2019, arXiv 1904.01685 (adaptive and classwise errors); Brier 1950.
Differs: voxels within 0.054 of each other's logit are never divided between two bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int
from scipy.special import expit

from apatite.calibrate.logit_histogram import CENTRES, PooledLogits, Scale
from apatite.metrics.bootstrap import rows_by_patient

NUM_BINS: Final = 15


@dataclass(frozen=True, kw_only=True)
class Scores:
    """ECE, ACE, Brier score and NLL (nats) as plain numbers."""

    ece: float
    ace: float
    brier: float
    nll: float


def scores(pooled: PooledLogits, scales: Sequence[Scale]) -> Scores:
    """ECE, ACE, Brier score and NLL of pooled cases.

    Args:
        pooled: At least one case.
        scales: Of each case's logits.
    """
    cases = ScoredCases.of(pooled, scales)
    sums = cases.sums(equal_weight(cases, NUM_BINS), NUM_BINS)
    return Scores(ece=ece(sums), ace=ace(sums), brier=float(cases.brier.mean()), nll=float(cases.nll.mean()))


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredCases:
    """Pooled cases at a scale.

    Attributes:
        weight: `cases bins`, of both classes.
        confidence: Weight × probability.
        marked: Weight that the reference marks.
        order: By which voxels are ranked: equal for voxels of one bin at one scale.
        brier: Per patient.
        nll: Per patient.
        groups: Rows of each patient.
    """

    weight: Float64[np.ndarray, "cases bins"]
    confidence: Float64[np.ndarray, "cases bins"]
    marked: Float64[np.ndarray, "cases bins"]
    order: Float64[np.ndarray, "cases bins"]
    brier: Float64[np.ndarray, "patients"]
    nll: Float64[np.ndarray, "patients"]
    groups: list[np.ndarray]

    @classmethod
    def of(cls, pooled: PooledLogits, scales: Sequence[Scale]) -> "ScoredCases":
        """Scale each case's logits."""
        temperature, offset = np.array(scales, dtype=np.float64).reshape(-1, 2).T
        logit = pooled.logit / temperature[:, None, None] + offset[:, None, None]
        probability = expit(logit)
        is_marked = np.array([0.0, 1.0])[:, None]
        groups = rows_by_patient(pooled.patients)
        squared = (pooled.weight * (probability - is_marked) ** 2).sum(axis=(1, 2))
        nll = (pooled.weight * (np.logaddexp(0.0, logit) - is_marked * logit)).sum(axis=(1, 2))
        return cls(
            weight=pooled.weight.sum(axis=1),
            confidence=(pooled.weight * probability).sum(axis=1),
            marked=pooled.weight[:, 1],
            order=CENTRES / temperature[:, None] + offset[:, None],
            brier=np.array([squared[rows].sum() for rows in groups]),
            nll=np.array([nll[rows].sum() for rows in groups]),
            groups=groups,
        )

    def sums(self, place: Int[np.ndarray, "cases bins"], num_bins: int) -> Float64[np.ndarray, "patients sums"]:
        """Per patient and place: weight, confidence, marked; flat, so that a patient is a row."""
        case = np.arange(len(place))[:, None] * num_bins + place
        parts = [
            np.bincount(case.ravel(), part.ravel(), minlength=len(place) * num_bins).reshape(len(place), num_bins)
            for part in (self.weight, self.confidence, self.marked)
        ]
        of_cases = np.stack(parts, axis=-1).reshape(len(place), -1)
        return np.stack([of_cases[rows].sum(axis=0) for rows in self.groups])


def equal_weight(cases: ScoredCases, num_bins: int) -> Int[np.ndarray, "cases bins"]:
    """In which of `num_bins` bins of equal weight each place lies; equals stay together."""
    _, same = np.unique(cases.order, return_inverse=True)
    same = same.reshape(cases.order.shape)
    weight = np.bincount(same.ravel(), cases.weight.ravel())
    middle = np.cumsum(weight) - weight / 2
    return np.minimum((middle / weight.sum() * num_bins).astype(np.int64), num_bins - 1)[same]


def bin_sums(sums: Float64[np.ndarray, "patients sums"]) -> Float64[np.ndarray, "3 bins"]:
    """Weight, confidence and marked weight of each bin, over all patients given."""
    return sums.sum(axis=0).reshape(-1, 3).T


def ece(sums: Float64[np.ndarray, "patients sums"]) -> float:
    """Expected calibration error of `ScoredCases.sums` at bins of equal weight."""
    weight, confidence, marked = bin_sums(sums)
    return float(np.abs(marked - confidence).sum() / weight.sum())


def ace(sums: Float64[np.ndarray, "patients sums"]) -> float:
    """Adaptive calibration error of the same; bins that hold nothing have no part."""
    weight, confidence, marked = bin_sums(sums)
    is_used = weight > 0
    return float((np.abs(marked - confidence)[is_used] / weight[is_used]).mean())
