"""Which of two models puts more patients into the right burden group: McNemar's exact test on those where one is wrong.

A patient is right where every one of his cases is. Both definitions of groups stand apart: `paper`, quartiles of these
very cases, positives only; `deployed`, each model's own frozen cut-points, all cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from apatite.calcium.burden import BurdenCuts, Definition
from apatite.metrics.paired import McNemar, mcnemar
from apatite.study.outcomes import CaseOutcome


@dataclass(frozen=True, kw_only=True)
class GroupContrast:
    """Burden groups of two models.

    Attributes:
        definition: `paper` or `deployed`.
        label: Label value.
        hu_gate: As in the outcomes.
        model: The later model.
        baseline: The earlier one.
        num_patients: Patients who have a group.
        model_accuracy: Share of them in whom the model is right.
        baseline_accuracy: Share in whom the baseline is.
        test: First is the model, second the baseline.
    """

    definition: Definition
    label: int
    hu_gate: float | None
    model: str
    baseline: str
    num_patients: int
    model_accuracy: float
    baseline_accuracy: float
    test: McNemar


def group_contrast(
    model: tuple[str, Sequence[CaseOutcome]],
    baseline: tuple[str, Sequence[CaseOutcome]],
    model_cuts: BurdenCuts,
    baseline_cuts: BurdenCuts,
) -> GroupContrast | None:
    """Compare two models in burden groups.

    Args:
        model: Name and cases of one label and one HU gate.
        baseline: The same cases of the other.
        model_cuts: What the model is judged by.
        baseline_cuts: What the other is; of the same definition.

    Returns:
        None where no case has a group.

    Raises:
        ValueError: two definitions would be mixed.
    """
    if model_cuts.definition != baseline_cuts.definition:
        raise ValueError(f"{model_cuts.definition} and {baseline_cuts.definition} are two definitions")
    patients = list(dict.fromkeys(o.patient_id for o in baseline[1] if _has_group(o, baseline_cuts)))
    if not patients:
        return None
    is_model_right = _is_right(model[1], model_cuts, patients)
    is_baseline_right = _is_right(baseline[1], baseline_cuts, patients)
    first = baseline[1][0]
    return GroupContrast(
        definition=model_cuts.definition,
        label=first.label,
        hu_gate=first.hu_gate,
        model=model[0],
        baseline=baseline[0],
        num_patients=len(patients),
        model_accuracy=float(is_model_right.mean()),
        baseline_accuracy=float(is_baseline_right.mean()),
        test=mcnemar(is_model_right, is_baseline_right),
    )


def _has_group(outcome: CaseOutcome, cuts: BurdenCuts) -> bool:
    return cuts.definition == "deployed" or outcome.is_positive


def _is_right(
    outcomes: Sequence[CaseOutcome], cuts: BurdenCuts, patients: Sequence[str]
) -> Bool[np.ndarray, "patients"]:
    wrong = {
        o.patient_id
        for o in outcomes
        if _has_group(o, cuts) and cuts.assign(o.predicted_mm3) != cuts.assign(o.reference_mm3)
    }
    return np.array([patient not in wrong for patient in patients], dtype=bool)
