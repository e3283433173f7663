"""One quantity of two models on the same patients: the difference, its interval, its test, and its margin.

The interval and the difference are those of `evaluate`: over cases, by resampling patients. Tests and effect sizes need
one number per patient: the quantity over the patient's own cases. The verdict on a margin is that of the interval,
which assumes no distribution; the p-values of the two one-sided t-tests stand beside it.

Source: ICH E9 and CONSORT's extension for non-inferiority: judged by the two-sided 95 % interval, one-sided 2.5 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from apatite.core.volume import Estimate
from apatite.metrics.paired import SignedRank, cohen_dz, one_sided, per_patient, signed_rank
from apatite.study.differences import PairedValues, paired_values
from apatite.study.intervals import MIN_PATIENTS, IntervalConfig, difference
from apatite.study.outcomes import CaseOutcome
from apatite.study.quantities import QUANTITIES, Quantity

Verdict = Literal["equivalent", "non-inferior", "inferior", "undecided"]
Runs = Sequence[Sequence[CaseOutcome]]
"""The cases of each training of one model, all of one label and one HU gate."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Whether a difference is small enough not to matter.

    Attributes:
        margin: In the quantity's unit.
        p_non_inferior: One-sided t-test; small where the model is surely not worse by the margin or more.
        p_equivalent: Two one-sided t-tests; small where it is surely neither worse nor better by that much.
        verdict: By the interval: `equivalent` inside ± margin, else `non-inferior` where the model is not worse by the
            margin, `inferior` where it is, and `undecided`.
    """

    margin: float
    p_non_inferior: float
    p_equivalent: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A quantity of one model minus that of another.

    Attributes:
        quantity: Name in `QUANTITIES`.
        label: Label value.
        hu_gate: As in the outcomes.
        model: The later model …
        baseline: … minus this one.
        num_cases: Cases in which both have a value.
        num_patients: Their patients who have a value as patients; these are tested.
        model_value: Of these cases.
        baseline_value: Of the same.
        estimate: Model minus baseline, with its interval by patient.
        test: Wilcoxon's signed ranks over patients; its sign is that of the difference.
        d_z: Cohen's, over patients.
        margin: None where the quantity has none.
    """

    quantity: str
    label: int
    hu_gate: float | None
    model: str
    baseline: str
    num_cases: int
    num_patients: int
    model_value: float
    baseline_value: float
    estimate: Estimate
    test: SignedRank
    d_z: float
    margin: Margin | None


def contrast(
    quantity_name: str,
    model: tuple[str, Runs],
    baseline: tuple[str, Runs],
    config: IntervalConfig,
    *,
    margin: float | None = None,
) -> Contrast:
    """Compare one quantity of two models.

    Args:
        quantity_name: Name in `QUANTITIES`.
        model: Name and runs of the model.
        baseline: Name and runs of what it is compared with; the same cases.
        config: How intervals are computed.
        margin: Of non-inferiority, in the quantity's unit.

    Raises:
        ConfigError: a margin that is not positive.
    """
    quantity = QUANTITIES[quantity_name]
    paired = paired_values(quantity, model[1], baseline[1])
    estimate = interval_of(quantity, paired, config)
    differences = _per_patient(quantity, paired)
    first = baseline[1][0][0]
    return Contrast(
        quantity=quantity_name,
        label=first.label,
        hu_gate=first.hu_gate,
        model=model[0],
        baseline=baseline[0],
        num_cases=len(paired.patients),
        num_patients=len(differences),
        model_value=_value(quantity, paired.model),
        baseline_value=_value(quantity, paired.baseline),
        estimate=estimate,
        test=signed_rank(differences),
        d_z=cohen_dz(differences),
        margin=None if margin is None else judge_margin(quantity, estimate, differences, margin),
    )


def interval_of(quantity: Quantity, paired: PairedValues, config: IntervalConfig) -> Estimate:
    """Model minus baseline, with its interval by patient."""
    return difference(paired.model, paired.baseline, quantity.statistic, paired.patients, config, quantity.unit)


def judge_margin(
    quantity: Quantity, estimate: Estimate, differences: Float[np.ndarray, "patients"], margin: float
) -> Margin:
    """Whether a difference is within a margin, in the direction that is worse for this quantity.

    Args:
        quantity: Says which values are the better ones.
        estimate: Model minus baseline.
        differences: The same, one per patient.
        margin: δ > 0.

    Raises:
        ConfigError: the margin is not positive.
    """
    sign = -1.0 if quantity.better == "lower" else 1.0
    tests = one_sided(sign * differences, margin)
    worst, best = sorted((sign * estimate.low, sign * estimate.high))
    is_enough = len(differences) >= MIN_PATIENTS
    return Margin(
        margin=margin,
        p_non_inferior=tests.p_above,
        p_equivalent=tests.p_equivalent,
        verdict=_verdict(worst, best, margin) if is_enough else "undecided",
    )


def _verdict(worst: float, best: float, margin: float) -> Verdict:
    """From the ends of the interval, turned so that larger is better."""
    if worst > -margin:
        return "equivalent" if best < margin else "non-inferior"
    return "inferior" if best < -margin else "undecided"


def _per_patient(quantity: Quantity, paired: PairedValues) -> Float[np.ndarray, "patients"]:
    model, baseline = per_patient(paired.model, paired.baseline, quantity.statistic, paired.patients)
    return model - baseline


def _value(quantity: Quantity, values: Float[np.ndarray, "cases *columns"]) -> float:
    return quantity.statistic(values) if len(values) else float("nan")
