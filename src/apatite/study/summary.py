"""One model on one label over a set of cases: every quantity with its interval, agreement, burden groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from apatite.calcium.burden import BurdenCuts
from apatite.core.volume import Estimate
from apatite.metrics.agreement import BlandAltman, bland_altman, icc_2_1, lin_ccc
from apatite.metrics.bootstrap import mean
from apatite.study.grouping import GroupAgreement, group_agreement
from apatite.study.intervals import STANDARD, IntervalConfig, interval
from apatite.study.outcomes import CaseOutcome
from apatite.study.quantities import QUANTITIES
from apatite.study.strata import ALL


@dataclass(frozen=True, kw_only=True, eq=False)
class Summary:
    """What one model did on one label.

    Attributes:
        model: Name of the model.
        label: Label value.
        hu_gate: As in the outcomes.
        stratum: `all cases`, or one of `strata.strata`.
        num_cases: All cases in which the label was annotated.
        num_patients: Their patients.
        num_positive: Cases whose reference marks something.
        num_unpredicted: Positive cases in which the model marked nothing; they have no precision.
        estimates: By the names of `QUANTITIES`; NaN where there was no case.
        bland_altman: `raw` and `log`, over positive cases; empty with fewer than two of them.
        concordance: ICC(2,1) and Lin's CCC on both scales, over positive cases.
        groups: Burden groups by definition; empty where they make no sense (organs).
    """

    model: str
    label: int
    hu_gate: float | None
    stratum: str
    num_cases: int
    num_patients: int
    num_positive: int
    num_unpredicted: int
    estimates: Mapping[str, Estimate]
    bland_altman: Mapping[str, BlandAltman]
    concordance: Mapping[str, float]
    groups: Mapping[str, GroupAgreement]

    @property
    def num_free(self) -> int:
        """Cases whose reference is empty."""
        return self.num_cases - self.num_positive


def summarise(
    model: str,
    outcomes: Sequence[CaseOutcome],
    cuts: Sequence[BurdenCuts] = (),
    config: IntervalConfig = STANDARD,
    stratum: str = ALL,
) -> Summary:
    """Summarise the cases of one model and one label (at least one case).

    Args:
        model: Its name.
        outcomes: Its cases.
        cuts: Burden definitions to judge by; none for organs.
        config: How intervals are computed.
        stratum: Name of this set of cases.
    """
    positive = [o for o in outcomes if o.is_positive]
    predicted = np.array([o.predicted_mm3 for o in positive])
    reference = np.array([o.reference_mm3 for o in positive])
    return Summary(
        model=model,
        label=outcomes[0].label,
        hu_gate=outcomes[0].hu_gate,
        stratum=stratum,
        num_cases=len(outcomes),
        num_patients=len({o.patient_id for o in outcomes}),
        num_positive=len(positive),
        num_unpredicted=sum(o.overlap.true_positive + o.overlap.false_positive == 0 for o in positive),
        estimates=_estimates(outcomes, cuts, config),
        bland_altman=_bland_altman(predicted, reference),
        concordance=_concordance(predicted, reference),
        groups={
            cut.definition: group_agreement(outcomes, cut, config)
            for cut in cuts
            if cut.definition == "deployed" or positive
        },
    )


def _estimates(
    outcomes: Sequence[CaseOutcome], cuts: Sequence[BurdenCuts], config: IntervalConfig
) -> dict[str, Estimate]:
    estimates: dict[str, Estimate] = {}
    for name, quantity in QUANTITIES.items():
        chosen = quantity.chosen(outcomes)
        patients = [o.patient_id for o in chosen]
        estimates[name] = interval(quantity.values(chosen), quantity.statistic, patients, config, quantity.unit)
    for cut in cuts:
        if cut.definition == "deployed":
            free = [o for o in outcomes if not o.is_positive]
            is_below = np.array([cut.assign(o.predicted_mm3) == 0 for o in free], dtype=np.float64)
            estimates["specificity_detection_limit"] = interval(is_below, mean, [o.patient_id for o in free], config)
    return estimates


def _bland_altman(
    predicted: Float[np.ndarray, "cases"], reference: Float[np.ndarray, "cases"]
) -> dict[str, BlandAltman]:
    if len(predicted) < 2:
        return {}
    return {"raw": bland_altman(predicted, reference, "raw"), "log": bland_altman(predicted, reference, "log")}


def _concordance(predicted: Float[np.ndarray, "cases"], reference: Float[np.ndarray, "cases"]) -> dict[str, float]:
    if len(predicted) < 2:
        return {}
    logs = np.log1p(predicted), np.log1p(reference)
    return {
        "icc_2_1": icc_2_1(np.stack([predicted, reference], axis=1)),
        "icc_2_1_log": icc_2_1(np.stack(logs, axis=1)),
        "lin_ccc": lin_ccc(predicted, reference),
        "lin_ccc_log": lin_ccc(*logs),
    }
