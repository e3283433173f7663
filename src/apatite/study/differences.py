"""One model minus another on the same cases: what is left when the difficulty of the cases cancels.

Both models use the same resamples of patients, so the interval is that of the difference, which is far narrower than
two separate intervals suggest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from apatite.core.volume import Estimate
from apatite.study.intervals import IntervalConfig, difference
from apatite.study.outcomes import CaseOutcome
from apatite.study.quantities import PAIRED, QUANTITIES, Quantity


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A quantity of one model minus that of another, on the same cases.

    Attributes:
        quantity: Name in `QUANTITIES`.
        label: Label value.
        hu_gate: As in the outcomes.
        model: The first model …
        baseline: … minus this one.
        num_cases: Cases in which the quantity is defined for both.
        estimate: With its interval.
    """

    quantity: str
    label: int
    hu_gate: float | None
    model: str
    baseline: str
    num_cases: int
    estimate: Estimate


def paired_differences(of_models: Mapping[str, Sequence[CaseOutcome]], config: IntervalConfig) -> list[Difference]:
    """Every later model minus every earlier one.

    Args:
        of_models: Model → its cases of one label and one HU gate; the same cases for every model, in any order.
        config: How intervals are computed.

    Returns:
        One difference per pair of models and quantity in `PAIRED`. A case in which either model has no value (no
        precision where nothing was predicted) is left out, so a difference can differ from that of the two means.
    """
    return [
        _difference(QUANTITIES[name], name, pair, of_models, config)
        for pair in combinations(of_models, 2)
        for name in PAIRED
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedValues:
    """A quantity in the cases in which both models have a value.

    Attributes:
        model: One value (or pair of values) per case.
        baseline: The same cases.
        patients: The patient of each.
    """

    model: Float[np.ndarray, "cases *columns"]
    baseline: Float[np.ndarray, "cases *columns"]
    patients: tuple[str, ...]


def paired_values(
    quantity: Quantity, model: Sequence[Sequence[CaseOutcome]], baseline: Sequence[Sequence[CaseOutcome]]
) -> PairedValues:
    """A quantity of two models, case by case.

    Args:
        quantity: Which.
        model: The cases of each training run of the first model, mostly one; its value is the mean over the runs.
        baseline: The same cases of the second, in any order.

    Returns:
        In the order of the baseline's first run. A case in which any run has no value is left out.
    """
    cases = quantity.chosen(baseline[0])
    a, b = (np.mean([_values(quantity, run, cases) for run in runs], axis=0) for runs in (model, baseline))
    is_known = _is_known(a) & _is_known(b)
    patients = tuple(case.patient_id for case, known in zip(cases, is_known.tolist(), strict=True) if known)
    return PairedValues(model=a[is_known], baseline=b[is_known], patients=patients)


def _difference(
    quantity: Quantity,
    name: str,
    pair: tuple[str, str],
    of_models: Mapping[str, Sequence[CaseOutcome]],
    config: IntervalConfig,
) -> Difference:
    baseline, model = pair
    paired = paired_values(quantity, [of_models[model]], [of_models[baseline]])
    first = of_models[baseline][0]
    return Difference(
        quantity=name,
        label=first.label,
        hu_gate=first.hu_gate,
        model=model,
        baseline=baseline,
        num_cases=len(paired.patients),
        estimate=difference(paired.model, paired.baseline, quantity.statistic, paired.patients, config, quantity.unit),
    )


def _values(
    quantity: Quantity, run: Sequence[CaseOutcome], cases: Sequence[CaseOutcome]
) -> Float[np.ndarray, "cases *columns"]:
    by_case = {outcome.case_id: outcome for outcome in run}
    return quantity.values([by_case[case.case_id] for case in cases])


def _is_known(values: Float[np.ndarray, "cases *columns"]) -> Bool[np.ndarray, "cases"]:
    """Which cases have a value (both of a pair)."""
    # No case at all is an array of one axis, whatever the quantity.
    return np.asarray(~np.isnan(values) if values.ndim == 1 else ~np.isnan(values).any(axis=1))
