"""From committed rows to figures: Dice with intervals over patients, paired differences, and the spread of seeds.

Several seeds of one condition are averaged patient by patient before the patients are resampled, so an interval says
how much the figure hangs on these patients; how much it hangs on the seed is said beside it, by each seed's own value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import bootstrap_interval, mean, paired_difference
from fewshot.results import Result, quiet_s
from fewshot.rows import LABELS, REMEDIES, SEEDS, encoder_of, name_of
from fewshot.variants import STANDARD, VARIANTS, finetune_config

Results = Mapping[str, Result]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is the same in rows that differ in their seed only.

    Attributes:
        kind: First part of the rows' names.
        labels: Labelled cases.
        variant: A key of `VARIANTS`.
    """

    kind: str
    labels: int
    variant: str = STANDARD

    def row(self, seed: int) -> str:
        """The row's name."""
        return name_of(self.kind, seed, self.labels, self.variant)

    @property
    def encoder_kind(self) -> bool:
        """Whether pre-training came before."""
        return self.kind == "tuned"

    def total_s(self, results: Results, seed: int) -> float | None:
        """Seconds of training, pre-training included; `None` where that row is open."""
        rows = [self.row(seed), *([encoder_of(self.variant, seed)] if self.encoder_kind else [])]
        return sum(quiet_s(results[row], results) for row in rows) if set(rows) <= set(results) else None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One condition minus another.

    Attributes:
        first, second: The conditions.
        equal: What is equal besides the labels: the `steps` of fine-tuning, the `total time`, or `nothing`.
    """

    first: Condition
    second: Condition
    equal: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a comparison found.

    Attributes:
        comparison: Which.
        seeds: Those of which both rows are done.
        mean_dice: Difference of the means over organs.
        by_seed: The same of each seed alone.
        by_organ: Differences of each organ, by label value.
        ratio: Mean Dice of the first over that of the second; not-a-number where the second is 0.
    """

    comparison: Comparison
    seeds: tuple[int, ...]
    mean_dice: Estimate
    by_seed: tuple[float, ...]
    by_organ: Mapping[int, Estimate]
    ratio: float

    @property
    def spread(self) -> float:
        """Largest minus smallest over the seeds; not-a-number for one seed."""
        return max(self.by_seed) - min(self.by_seed) if len(self.by_seed) > 1 else float("nan")


def comparisons() -> list[Comparison]:
    """All that is compared, the standard recipes first."""
    return [found for labels in LABELS for found in _standard(labels)] + [
        found for variant in REMEDIES for labels in LABELS for found in _of_remedy(variant, labels)
    ]


def _standard(labels: int) -> list[Comparison]:
    tuned, scratch = Condition(kind="tuned", labels=labels), Condition(kind="scratch", labels=labels)
    longer, peer = (Condition(kind=f"{kind}-equal-time", labels=labels) for kind in ("scratch", "peer"))
    return [
        Comparison(first=tuned, second=scratch, equal="steps"),
        Comparison(first=tuned, second=longer, equal="total time"),
        Comparison(first=tuned, second=peer, equal="total time"),
        Comparison(first=longer, second=peer, equal="total time"),
    ]


def _of_remedy(variant: str, labels: int) -> list[Comparison]:
    tuned = Condition(kind="tuned", labels=labels, variant=variant)
    has_own = VARIANTS[variant].own_scratch
    scratch = Condition(kind="scratch", labels=labels, variant=variant if has_own else STANDARD)
    is_as_long = finetune_config(variant, 0).steps == finetune_config(STANDARD, 0).steps
    equal = "steps" if is_as_long else "nothing"
    found = [
        Comparison(first=tuned, second=scratch, equal="steps"),
        Comparison(first=tuned, second=Condition(kind="tuned", labels=labels), equal=equal),
    ]
    if has_own:
        found.append(Comparison(first=scratch, second=Condition(kind="scratch", labels=labels), equal=equal))
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Dice of one row or of the mean over rows.

    Attributes:
        case_ids, patients: One per row of `dice`, in the order of `case_ids`.
        labels: One per column, ascending.
        dice: Not-a-number where the organ was not annotated or is not there.
    """

    case_ids: tuple[str, ...]
    patients: tuple[str, ...]
    labels: tuple[int, ...]
    dice: np.ndarray


def scores_of(result: Result) -> Scores:
    """A row's Dice as a table of cases and organs."""
    patient_of = {outcome["case_id"]: outcome["patient_id"] for outcome in result.outcomes}
    case_ids, labels = sorted(patient_of), sorted({outcome["label"] for outcome in result.outcomes})
    dice = np.full((len(case_ids), len(labels)), np.nan)
    for outcome in result.outcomes:
        true, over, missed = (outcome[name] for name in ("true_positive", "false_positive", "false_negative"))
        if true + missed:
            dice[case_ids.index(outcome["case_id"]), labels.index(outcome["label"])] = (
                2 * true / (2 * true + over + missed)
            )
    return Scores(
        case_ids=tuple(case_ids),
        patients=tuple(patient_of[case_id] for case_id in case_ids),
        labels=tuple(labels),
        dice=dice,
    )


def mean_of_seeds(rows: Sequence[Scores]) -> Scores:
    """Mean over rows that were judged on the same cases and organs.

    Raises:
        ValueError: they were not.
    """
    first = rows[0]
    if any((row.case_ids, row.labels) != (first.case_ids, first.labels) for row in rows):
        raise ValueError("rows were judged on different cases")
    if any(not np.array_equal(np.isnan(row.dice), np.isnan(first.dice)) for row in rows):
        raise ValueError("rows were judged with different annotations")
    dice = np.mean([row.dice for row in rows], axis=0)
    return Scores(case_ids=first.case_ids, patients=first.patients, labels=first.labels, dice=dice)


def organ_mean(dice: np.ndarray) -> float:
    """Mean over organs of the mean over the cases that have the organ."""
    is_known = ~np.isnan(dice)
    counts = is_known.sum(axis=0)
    sums = np.where(is_known, dice, 0.0).sum(axis=0)
    return float(np.mean(sums[counts > 0] / counts[counts > 0])) if counts.any() else float("nan")


def dice_by_organ(scores: Scores) -> dict[int, Estimate]:
    """Mean Dice of each organ with its interval over patients."""
    return {
        label: bootstrap_interval(scores.dice[:, place], mean, scores.patients)
        for place, label in enumerate(scores.labels)
    }


def mean_dice(scores: Scores) -> Estimate:
    """Mean over organs with its interval over patients."""
    return bootstrap_interval(scores.dice, organ_mean, scores.patients)


def seeds_done(condition: Condition, results: Results) -> tuple[int, ...]:
    """Seeds of which the row is there."""
    return tuple(seed for seed in SEEDS if condition.row(seed) in results)


def pooled(condition: Condition, results: Results, seeds: Sequence[int]) -> Scores:
    """A condition's Dice, averaged over seeds."""
    return mean_of_seeds([scores_of(results[condition.row(seed)]) for seed in seeds])


def difference(comparison: Comparison, results: Results) -> Difference | None:
    """What the done rows say; `None` while no seed has both."""
    first, second = comparison.first, comparison.second
    seeds = tuple(seed for seed in seeds_done(first, results) if seed in seeds_done(second, results))
    if not seeds:
        return None
    a, b = pooled(first, results, seeds), pooled(second, results, seeds)
    mean_of_seeds([a, b])  # refuses rows that were judged on different cases
    of_seeds = [
        organ_mean(scores_of(results[first.row(seed)]).dice) - organ_mean(scores_of(results[second.row(seed)]).dice)
        for seed in seeds
    ]
    base = organ_mean(b.dice)
    return Difference(
        comparison=comparison,
        seeds=seeds,
        mean_dice=paired_difference(a.dice, b.dice, organ_mean, a.patients),
        by_seed=tuple(of_seeds),
        by_organ={
            label: paired_difference(a.dice[:, place], b.dice[:, place], mean, a.patients)
            for place, label in enumerate(a.labels)
        },
        ratio=organ_mean(a.dice) / base if base else float("nan"),
    )
