"""Compare models by patient: every quantity, both burden definitions, every stratum; all tests corrected together.

The family of Holm's correction is every signed-rank test of one reading (one HU gate): all pairs of models, at their
own thresholds and at 0.5, all labels, all quantities. McNemar's tests of that reading are a second family. Strata have
intervals and no tests: there are too many of them, and they overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apatite.calcium.burden import BurdenCuts, paper_cuts
from apatite.core.volume import Estimate
from apatite.core.watch import Watch, unwatched
from apatite.metrics.paired import holm
from apatite.study.compare.agreement import refuse_unlike
from apatite.study.compare.config import STANDARD, CompareConfig
from apatite.study.compare.contrast import Contrast, Runs, contrast, interval_of
from apatite.study.compare.groups import GroupContrast, group_contrast
from apatite.study.compare.levels import Level, levels
from apatite.study.compare.sides import Side, pairs_of, sides_of
from apatite.study.differences import paired_values
from apatite.study.outcomes import CaseOutcome
from apatite.study.quantities import QUANTITIES
from apatite.study.strata import strata, volume_strata

Deployed = Mapping[str, Mapping[float | None, BurdenCuts]]
"""Title in the outcomes → HU gate → frozen cut-points."""

_MIN_FOR_QUARTILES = 4


@dataclass(frozen=True, kw_only=True)
class StratumDifference:
    """A difference in a subset of the cases; without a test.

    Attributes:
        stratum: Name of the subset.
        quantity: Name in `QUANTITIES`.
        label: Label value.
        hu_gate: As in the outcomes.
        model: The later model …
        baseline: … minus this one.
        num_cases: Cases of the subset in which both have a value.
        estimate: With its interval by patient.
    """

    stratum: str
    quantity: str
    label: int
    hu_gate: float | None
    model: str
    baseline: str
    num_cases: int
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All that a comparison found.

    Attributes:
        outcomes: What it was computed from.
        label_names: Label value → name.
        config: How it was done.
        sides: Who was compared.
        contrasts: One per pair, label, gate and quantity.
        p_holm: Corrected p-value of each contrast's test.
        groups: Burden groups; none of models with several trainings, of which each says something else.
        groups_p_holm: Corrected p-value of each.
        levels: The models' own figures.
        strata: Differences in subsets.
    """

    outcomes: Mapping[str, tuple[CaseOutcome, ...]]
    label_names: Mapping[int, str]
    config: CompareConfig
    sides: tuple[Side, ...]
    contrasts: tuple[Contrast, ...]
    p_holm: tuple[float, ...]
    groups: tuple[GroupContrast, ...]
    groups_p_holm: tuple[float, ...]
    levels: tuple[Level, ...]
    strata: tuple[StratumDifference, ...]

    @property
    def parts(self) -> tuple[tuple[int, float | None], ...]:
        """Labels and HU gates, the ungated reading of a label first."""
        return _parts(self.outcomes)

    @property
    def num_patients(self) -> int:
        """Patients of all cases."""
        return len({o.patient_id for rows in self.outcomes.values() for o in rows})

    def family_size(self, hu_gate: float | None) -> int:
        """How many signed-rank tests are corrected together in a reading."""
        return sum(found.hu_gate == hu_gate and found.num_patients > 0 for found in self.contrasts)


def compare(
    outcomes: Mapping[str, Sequence[CaseOutcome]],
    config: CompareConfig = STANDARD,
    *,
    label_names: Mapping[int, str] | None = None,
    deployed: Deployed | None = None,
    watch: Watch = unwatched,
) -> Comparison:
    """Compare models on the same cases.

    Args:
        outcomes: Title → rows. `name` and `name + calibrated` are two readings of one model; `name #1`, `name #2`, …
            are trainings of one model.
        config: How.
        label_names: Label value → name; missing ones are called `label 3`.
        deployed: Frozen burden groups of the titles that have some.
        watch: Shows progress.

    Raises:
        DataError: nothing to compare (`NO_CASES`), or unlike cases or references (`CASES_DIFFER`).
    """
    refuse_unlike(outcomes)
    sides = sides_of(list(outcomes))
    contrasts: list[Contrast] = []
    groups: list[GroupContrast] = []
    own: list[Level] = []
    in_strata: list[StratumDifference] = []
    steps = [(part, pair) for part in _parts(outcomes) for pair in pairs_of(sides)]
    for part, (baseline, model) in watch(steps, "comparing", len(steps)):
        a, b = (_named(side, outcomes, part) for side in (model, baseline))
        contrasts += [
            contrast(name, a, b, config.intervals, margin=config.margins.get(name)) for name in config.quantities
        ]
        in_strata += _in_strata(a, b, config)
        if part[0] == config.burden_label and len(model.runs) == len(baseline.runs) == 1:
            groups += _groups(a, b, (model.runs[0], baseline.runs[0]), deployed or {})
    for part in _parts(outcomes):
        for side in watch(sides, "each model", len(sides)):
            own += levels(_named(side, outcomes, part), config.quantities, config.intervals)
    labels = dict.fromkeys(label for label, _ in _parts(outcomes))
    return Comparison(
        outcomes={title: tuple(rows) for title, rows in outcomes.items()},
        label_names={label: (label_names or {}).get(label, f"label {label}") for label in labels},
        config=config,
        sides=tuple(sides),
        contrasts=tuple(contrasts),
        p_holm=_corrected([(found.hu_gate, found.test.p_value) for found in contrasts]),
        groups=tuple(groups),
        groups_p_holm=_corrected([(found.hu_gate, found.test.p_value) for found in groups]),
        levels=tuple(own),
        strata=tuple(in_strata),
    )


def _parts(outcomes: Mapping[str, Sequence[CaseOutcome]]) -> tuple[tuple[int, float | None], ...]:
    parts = {(o.label, o.hu_gate) for rows in outcomes.values() for o in rows}
    return tuple(sorted(parts, key=lambda part: (part[0], -1e9 if part[1] is None else part[1])))


def _named(
    side: Side, outcomes: Mapping[str, Sequence[CaseOutcome]], part: tuple[int, float | None]
) -> tuple[str, Runs]:
    return side.name, [[o for o in outcomes[run] if (o.label, o.hu_gate) == part] for run in side.runs]


def _in_strata(model: tuple[str, Runs], baseline: tuple[str, Runs], config: CompareConfig) -> list[StratumDifference]:
    """By thickness, kernel and reference volume of the baseline's rows, which say the same of a case as the model's."""
    found = []
    cases = baseline[1][0]
    for stratum, subset in (strata(cases) | volume_strata(cases, config.size_cuts_mm3)).items():
        chosen = {o.case_id for o in subset}
        a, b = ([[o for o in run if o.case_id in chosen] for run in runs] for runs in (model[1], baseline[1]))
        for name in config.quantities:
            paired = paired_values(QUANTITIES[name], a, b)
            found.append(
                StratumDifference(
                    stratum=stratum,
                    quantity=name,
                    label=cases[0].label,
                    hu_gate=cases[0].hu_gate,
                    model=model[0],
                    baseline=baseline[0],
                    num_cases=len(paired.patients),
                    estimate=interval_of(QUANTITIES[name], paired, config.intervals),
                )
            )
    return found


def _groups(
    model: tuple[str, Runs], baseline: tuple[str, Runs], titles: tuple[str, str], deployed: Deployed
) -> list[GroupContrast]:
    """In the paper's definition and, where both models have frozen cut-points, in the deployed one."""
    (model_name, (a,)), (baseline_name, (b,)) = model, baseline
    found = []
    volumes = np.array([o.reference_mm3 for o in b if o.is_positive])
    if len(volumes) >= _MIN_FOR_QUARTILES:
        cuts = paper_cuts(volumes)
        found.append(group_contrast((model_name, a), (baseline_name, b), cuts, cuts))
    gate = b[0].hu_gate
    frozen = [deployed.get(title, {}).get(gate) for title in titles]
    if frozen[0] is not None and frozen[1] is not None:
        found.append(group_contrast((model_name, a), (baseline_name, b), frozen[0], frozen[1]))
    return [one for one in found if one is not None]


def _corrected(tests: Sequence[tuple[float | None, float]]) -> tuple[float, ...]:
    """Holm's correction within each reading; a test that could not be made stays nan."""
    corrected = [float("nan")] * len(tests)
    for gate in dict.fromkeys(gate for gate, _ in tests):
        family = [number for number, test in enumerate(tests) if test[0] == gate]
        for number, p_value in zip(family, holm([tests[number][1] for number in family]), strict=True):
            corrected[number] = p_value
    return tuple(corrected)
