"""Compare models on the same annotated cases: summaries, strata, paired differences, all from the cases' outcomes.

Whatever is compared is compared alike: the same cases, the same reference, the same HU gate for every model; anything
else is refused. Knows no network, only outcomes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from apatite.calcium.burden import BurdenCuts, paper_cuts
from apatite.core.errors import DataError
from apatite.core.volume import Estimate
from apatite.core.watch import Watch, unwatched
from apatite.study.differences import Difference, paired_differences
from apatite.study.intervals import IntervalConfig, interval
from apatite.study.outcomes import CaseOutcome
from apatite.study.probability import ModelProbability
from apatite.study.quantities import OVER_LABELS, QUANTITIES
from apatite.study.strata import ALL, strata
from apatite.study.summary import Summary, summarise

_MIN_FOR_QUARTILES = 4


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How an evaluation is done.

    Attributes:
        intervals: Bootstrap settings.
        burden_label: The label that has burden groups; None where none has (organs).
        primary: The model whose figures stand under nnU-Net's keys in `summary.json`; the last one when empty.
    """

    intervals: IntervalConfig = field(default_factory=IntervalConfig)
    burden_label: int | None = 1
    primary: str = ""


STANDARD = EvaluateConfig()
"""What is used where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class LabelMean:
    """The mean over labels of each label's mean over cases.

    Attributes:
        model: Name of the model.
        hu_gate: As in the outcomes.
        labels: Label values that take part.
        estimates: By the names in `OVER_LABELS`.
    """

    model: str
    hu_gate: float | None
    labels: tuple[int, ...]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """All that an evaluation found.

    Attributes:
        outcomes: The rows it was computed from, by model.
        label_names: Label value → name.
        config: How it was done.
        summaries: Per model, label, gate and stratum.
        differences: Later model minus earlier model, in the order they were given.
        label_means: Only where there are several labels.
        probability: By calibrated model: what its probabilities and intervals are worth.
    """

    outcomes: Mapping[str, tuple[CaseOutcome, ...]]
    label_names: Mapping[int, str]
    config: EvaluateConfig
    summaries: tuple[Summary, ...]
    differences: tuple[Difference, ...]
    label_means: tuple[LabelMean, ...]
    probability: Mapping[str, ModelProbability] = field(default_factory=dict)

    @property
    def models(self) -> tuple[str, ...]:
        """Names, in the order in which they were given."""
        return tuple(self.outcomes)

    @property
    def labels(self) -> tuple[int, ...]:
        """Label values that have at least one outcome."""
        return tuple(sorted({summary.label for summary in self.summaries}))

    @property
    def gates(self) -> tuple[float | None, ...]:
        """HU gates, the ungated reading first."""
        return _gates(self.outcomes)

    @property
    def primary(self) -> str:
        """The model under nnU-Net's keys."""
        return self.config.primary or self.models[-1]

    def rows(self, model: str, label: int, hu_gate: float | None) -> list[CaseOutcome]:
        """The outcomes of one model, label and gate."""
        return _rows(self.outcomes[model], label, hu_gate)

    def of(self, label: int, hu_gate: float | None, stratum: str = ALL) -> dict[str, Summary]:
        """Summaries by model."""
        return {
            summary.model: summary
            for summary in self.summaries
            if (summary.label, summary.hu_gate, summary.stratum) == (label, hu_gate, stratum)
        }


def evaluate(
    outcomes: Mapping[str, Sequence[CaseOutcome]],
    config: EvaluateConfig = STANDARD,
    *,
    label_names: Mapping[int, str] | None = None,
    deployed: Mapping[str, Mapping[float | None, BurdenCuts]] | None = None,
    probability: Mapping[str, ModelProbability] | None = None,
    watch: Watch = unwatched,
) -> Evaluation:
    """Evaluate one or more models on the same cases.

    Args:
        outcomes: Model → its rows: one per case and annotated label, once per HU gate.
        config: How.
        label_names: Label value → name; missing ones are called `label 3`.
        deployed: Model → HU gate → cut-points frozen on development in that reading; without them only the paper's
            definition is reported.
        probability: Of the calibrated models, as `probability.ProbabilityRecord` found it on these cases.
        watch: Shows progress.

    Raises:
        DataError: no outcomes, or the models differ in cases, gates or reference (`CASES_DIFFER`).
    """
    rows = {model: tuple(cases) for model, cases in outcomes.items()}
    _refuse_unlike(rows)
    names = dict(label_names or {})
    labels = sorted({o.label for o in next(iter(rows.values()))})
    summaries: list[Summary] = []
    differences: list[Difference] = []
    parts = [(label, gate) for gate in _gates(rows) for label in labels]
    for label, gate in watch(parts, "evaluating", total=len(parts)):
        of_models = {model: _rows(cases, label, gate) for model, cases in rows.items()}
        cuts = _paper_cuts(of_models) if label == config.burden_label else []
        for model, cases in of_models.items():
            frozen = (deployed or {}).get(model, {}).get(gate) if label == config.burden_label else None
            all_cuts = [*cuts, frozen] if frozen else cuts
            summaries.append(summarise(model, cases, all_cuts, config.intervals))
            summaries += [
                summarise(model, subset, all_cuts, config.intervals, stratum)
                for stratum, subset in strata(cases).items()
            ]
        differences += paired_differences(of_models, config.intervals)
    return Evaluation(
        outcomes=rows,
        label_names={label: names.get(label, f"label {label}") for label in labels},
        config=config,
        summaries=tuple(summaries),
        differences=tuple(differences),
        label_means=_label_means(rows, labels, config.intervals),
        probability=dict(probability or {}),
    )


def _gates(rows: Mapping[str, Sequence[CaseOutcome]]) -> tuple[float | None, ...]:
    gates = {o.hu_gate for cases in rows.values() for o in cases}
    return tuple(sorted(gates, key=lambda gate: -1e9 if gate is None else gate))


def _rows(cases: Sequence[CaseOutcome], label: int, hu_gate: float | None) -> list[CaseOutcome]:
    return [o for o in cases if o.label == label and o.hu_gate == hu_gate]


def _refuse_unlike(rows: Mapping[str, Sequence[CaseOutcome]]) -> None:
    """Every model has the same cases, labels, gates and reference; every row stands once."""
    if not any(rows.values()):
        raise DataError(
            "there are no outcomes to evaluate", fix="evaluate a split with labelled cases", code="NO_CASES"
        )
    expected: dict[tuple[str, int, float | None], int] = {}
    for number, (model, cases) in enumerate(rows.items()):
        references = {(o.case_id, o.label, o.hu_gate): o.true_positive + o.false_negative for o in cases}
        if len(references) != len(cases):
            raise DataError(
                "a case stands twice in the outcomes", where=model, fix="give each case once", code="CASES_DIFFER"
            )
        expected = references if number == 0 else expected
        odd = {key for key, _ in references.items() ^ expected.items()}
        if odd:
            case_id, label, gate = min(odd, key=str)
            raise DataError(
                f"case {case_id} (label {label}, HU gate {gate}) is missing, "
                "or its reference is not that of the first model",
                where=model,
                fix="evaluate every model on the same cases, with the same reference and the same HU gate",
                code="CASES_DIFFER",
            )


def _paper_cuts(of_models: Mapping[str, Sequence[CaseOutcome]]) -> list[BurdenCuts]:
    """Quartiles of the cases under evaluation, whose reference is the same for every model."""
    first = next(iter(of_models.values()))
    volumes = np.array([o.reference_mm3 for o in first if o.is_positive])
    return [paper_cuts(volumes)] if len(volumes) >= _MIN_FOR_QUARTILES else []


def _label_means(
    rows: Mapping[str, Sequence[CaseOutcome]], labels: Sequence[int], config: IntervalConfig
) -> tuple[LabelMean, ...]:
    if len(labels) < 2:
        return ()
    return tuple(
        LabelMean(
            model=model, hu_gate=gate, labels=tuple(labels), estimates=_means_over_labels(cases, labels, gate, config)
        )
        for gate in _gates(rows)
        for model, cases in rows.items()
    )


def _means_over_labels(
    cases: Sequence[CaseOutcome], labels: Sequence[int], gate: float | None, config: IntervalConfig
) -> dict[str, Estimate]:
    case_ids = list(dict.fromkeys(o.case_id for o in cases))
    patient_of = {o.case_id: o.patient_id for o in cases}
    estimates = {}
    for name in OVER_LABELS:
        quantity = QUANTITIES[name]
        table = np.full((len(case_ids), len(labels)), np.nan)
        for o in quantity.chosen(cases):
            if o.hu_gate == gate:
                table[case_ids.index(o.case_id), labels.index(o.label)] = quantity.of_case(o)
        patients = [patient_of[case_id] for case_id in case_ids]
        estimates[name] = interval(table, _mean_of_means, patients, config, quantity.unit)
    return estimates


def _mean_of_means(table: Float[np.ndarray, "cases labels"]) -> float:
    """Mean over labels of the mean over the cases that have the label."""
    is_known = ~np.isnan(table)
    counts = is_known.sum(axis=0)
    if not counts.any():
        return float("nan")
    sums = np.where(is_known, table, 0.0).sum(axis=0)
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))
