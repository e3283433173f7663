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


def _difference(
    quantity: Quantity,
    name: str,
    pair: tuple[str, str],
    of_models: Mapping[str, Sequence[CaseOutcome]],
    config: IntervalConfig,
) -> Difference:
    baseline, model = pair
    by_case = {outcome.case_id: outcome for outcome in of_models[model]}
    base_rows = quantity.chosen(of_models[baseline])
    a = quantity.values([by_case[outcome.case_id] for outcome in base_rows])
    b = quantity.values(base_rows)
    is_known = _is_known(a) & _is_known(b)
    patients = [outcome.patient_id for outcome, known in zip(base_rows, is_known.tolist(), strict=True) if known]
    first = of_models[baseline][0]
    return Difference(
        quantity=name,
        label=first.label,
        hu_gate=first.hu_gate,
        model=model,
        baseline=baseline,
        num_cases=len(patients),
        estimate=difference(a[is_known], b[is_known], quantity.statistic, patients, config, quantity.unit),
    )


def _is_known(values: Float[np.ndarray, "cases *columns"]) -> Bool[np.ndarray, "cases"]:
    """Which cases have a value (both of a pair)."""
    # No case at all is an array of one axis, whatever the quantity.
    return np.asarray(~np.isnan(values) if values.ndim == 1 else ~np.isnan(values).any(axis=1))
