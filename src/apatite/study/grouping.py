"""How often a model puts a case into the right burden group, in either definition and never in a mixture of both.

`paper`: quartiles of the annotated volumes of these very cases, positives only. `deployed`: cut-points that were frozen
on development before; cases without calcium take part.

Source: Jin et al. 2025 (arXiv 2507.01744), accuracy of the quartile; quadratic kappa after Cohen 1968.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from apatite.calcium.burden import BurdenCuts
from apatite.core.errors import ConfigError
from apatite.core.volume import Estimate
from apatite.metrics.agreement import confusion, quadratic_kappa
from apatite.metrics.bootstrap import mean
from apatite.study.intervals import STANDARD, IntervalConfig, interval
from apatite.study.outcomes import CaseOutcome


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupAgreement:
    """Groups by the model against groups by the reference, with the same cut-points on both sides.

    Attributes:
        cuts: Definition and cut-points.
        num_cases: Cases that have a group in this definition.
        accuracy: Share in the right group.
        within_one: Share at most one group off.
        kappa: Quadratically weighted.
        matrix: Counts, `reference predicted`, in the order of `cuts.groups`.
    """

    cuts: BurdenCuts
    num_cases: int
    accuracy: Estimate
    within_one: Estimate
    kappa: Estimate
    matrix: Int[np.ndarray, "groups groups"]


def group_agreement(
    outcomes: Sequence[CaseOutcome], cuts: BurdenCuts, config: IntervalConfig = STANDARD
) -> GroupAgreement:
    """Agreement in burden groups.

    Args:
        outcomes: Cases of one model and one label.
        cuts: With the definition `paper`, cases without calcium are left out, as the paper does; a prediction of
            nothing in a case with calcium falls into the lowest quartile.
        config: How intervals are computed.

    Raises:
        ConfigError: no case has a group.
    """
    chosen = [o for o in outcomes if cuts.definition == "deployed" or o.is_positive]
    if not chosen:
        raise ConfigError("no case has a burden group", fix="evaluate cases with calcium, or leave the groups out")
    pairs = np.array([[cuts.assign(o.reference_mm3), cuts.assign(o.predicted_mm3)] for o in chosen])
    off = np.abs(pairs[:, 0] - pairs[:, 1])
    patients = [o.patient_id for o in chosen]

    def kappa(rows: np.ndarray) -> float:
        # Resampled rows are floating-point numbers; groups are integers.
        return quadratic_kappa(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), len(cuts.groups))

    return GroupAgreement(
        cuts=cuts,
        num_cases=len(chosen),
        accuracy=interval((off == 0).astype(float), mean, patients, config),
        within_one=interval((off <= 1).astype(float), mean, patients, config),
        kappa=interval(pairs, kappa, patients, config),
        matrix=confusion(pairs[:, 0], pairs[:, 1], cuts.groups),
    )
