"""What one arm did, and one arm minus another: runs averaged case by case, then patients resampled.

The interval says how much a figure hangs on these patients; how much it hangs on the seed is said beside it, by each
run's own value. A contrast weights any number of arms, so a difference of differences is one too.

Source: Jin et al. 2025 (arXiv 2507.01744) for intervals over patients.
Differs: BCa instead of percentiles, several seeds, and paired differences, which the paper does not give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from apatite.calcium.burden import paper_cuts
from apatite.core.errors import ConfigError, DataError
from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import mean
from apatite.study.intervals import interval
from apatite.study.outcomes import CaseOutcome
from apatite.study.paper.results import Arm, Results, Run
from apatite.study.quantities import QUANTITIES
from apatite.study.sweep.label_means import mean_over_labels
from apatite.study.sweep.record import Record

RIGHT_QUARTILE = "right_quartile"
"""Besides the names in `QUANTITIES`: 1 where a case falls into the quartile of its reference, 0 where not."""

Membership = Callable[[CaseOutcome], bool | None]
"""Whether a case is in a subset or in its counterpart; None for neither."""
Term = tuple[float, Arm]
Column = Float[np.ndarray, "rows"] | None
Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One quantity of one arm, over the cases whose reference marks something; of several labels, one after another.

    Attributes:
        runs: What tells the rows of `values` from each other.
        cases: The outcomes of the first run, in the order of the columns: one per case and label.
        values: NaN where a run has no value for a case.
    """

    runs: tuple[Run, ...]
    cases: tuple[CaseOutcome, ...]
    values: Float[np.ndarray, "runs cases"]

    @property
    def patients(self) -> list[str]:
        """The patient of each column."""
        return [case.patient_id for case in self.cases]


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """A weighted sum of arms on the same cases and the same runs.

    Attributes:
        estimate: Runs averaged, with its interval over patients.
        by_run: The same of each run alone.
        num_cases: Cases that take part.
        num_patients: Their patients; with a subset, those of the side that has fewer.
        records: The rows it was computed from.
    """

    estimate: Estimate
    by_run: Mapping[Run, float]
    num_cases: int
    num_patients: int
    records: tuple[Record, ...]


def sample(results: Results, arm: Arm, quantity: str, runs: Sequence[Run] | None = None) -> Sample | None:
    """A quantity of an arm, run by run; None where no run is done.

    Args:
        results: The study.
        arm: Which rows.
        quantity: A name in `QUANTITIES` that is about cases with the label and has one value per case, or
            `RIGHT_QUARTILE`.
        runs: Only these; all by default.

    Raises:
        DataError: two runs were judged on other cases (`CASES_DIFFER`), or are alike (`ROWS_ALIKE`).
    """
    found = {run: record for run, record in results.runs(arm).items() if runs is None or run in runs}
    if not found:
        return None
    of_runs = [_positive(results.rows(record, arm.reading)) for record in found.values()]
    for record, rows in zip(found.values(), of_runs, strict=True):
        _refuse_unlike(of_runs[0], rows, record.name)
    return Sample(
        runs=tuple(found),
        cases=tuple(of_runs[0]),
        values=np.stack([_values(quantity, rows) for rows in of_runs]),
    )


def estimate(results: Results, arm: Arm, quantity: str, chosen: Membership | None = None) -> Estimate | None:
    """The mean over cases of an arm with its interval, runs averaged; None where no run is done.

    Args:
        results: The study.
        arm: Which rows.
        quantity: As in `sample`.
        chosen: Only the cases for which this is true.
    """
    found = sample(results, arm, quantity)
    if found is None:
        return None
    keep = [place for place, case in enumerate(found.cases) if chosen is None or chosen(case)]
    patients = [found.patients[place] for place in keep]
    rows, statistic = _averaged(results, [found.cases[place] for place in keep])
    values = _joined(mean_over_runs(found.values)[keep], rows)
    return interval(values, statistic, patients, results.view.intervals, _unit(quantity))


def means_of_runs(results: Results, arm: Arm, quantity: str) -> list[float]:
    """The mean of each run of an arm alone; runs without any value are left out."""
    found = sample(results, arm, quantity)
    if found is None:
        return []
    rows, statistic = _averaged(results, found.cases)
    means = [statistic(_joined(values, rows)) for values in found.values]
    return [value for value in means if not np.isnan(value)]


def contrast(
    results: Results, terms: Sequence[Term], quantity: str, inside: Membership | None = None
) -> Contrast | None:
    """A weighted sum of arms with its interval by patient; None where the arms share no finished run.

    Args:
        results: The study.
        terms: Weight and arm; `[(1, a), (-1, b)]` is a minus b.
        quantity: As in `sample`.
        inside: With it, the sum in a subset of the cases minus the same sum in its counterpart.

    Raises:
        DataError: the arms were judged on other cases (`CASES_DIFFER`).
    """
    runs = shared_runs(results, [arm for _, arm in terms])
    samples = [sample(results, arm, quantity, runs) for _, arm in terms]
    known = [found for found in samples if found is not None]
    if not runs or len(known) < len(samples):
        return None
    for (_, arm), found in zip(terms, known, strict=True):
        _refuse_unlike(known[0].cases, found.cases, arm.title)
    weights = np.array([weight for weight, _ in terms])
    by_run = np.einsum("t,trc->rc", weights, np.stack([found.values for found in known]))
    rows, statistic, keep = _subset(results, known[0].cases, inside)
    cases = [known[0].cases[place] for place in keep]
    patients = [case.patient_id for case in cases]
    averaged = _joined(mean_over_runs(by_run)[keep], rows)
    records = [record for _, arm in terms for run, record in results.runs(arm).items() if run in runs]
    return Contrast(
        estimate=interval(averaged, statistic, patients, results.view.intervals, _unit(quantity)),
        by_run={run: float(statistic(_joined(by_run[place][keep], rows))) for place, run in enumerate(runs)},
        num_cases=len({case.case_id for case in cases}),
        num_patients=_num_patients(patients, None if inside is None else rows),
        records=tuple({record.name: record for record in records}.values()),
    )


def shared_runs(results: Results, arms: Sequence[Arm]) -> tuple[Run, ...]:
    """Draws and seeds that are done in every arm."""
    of_arms = [results.runs(arm) for arm in arms]
    return tuple(run for run in of_arms[0] if all(run in runs for runs in of_arms))


def mean_over_runs(values: Float[np.ndarray, "runs cases"]) -> Float[np.ndarray, "cases"]:
    """Mean of the runs that have a value; NaN where none has."""
    is_known = ~np.isnan(values)
    counts = is_known.sum(axis=0)
    return np.where(counts > 0, np.where(is_known, values, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)


def _subset(
    results: Results, cases: Sequence[CaseOutcome], inside: Membership | None
) -> tuple[Column, Statistic, list[int]]:
    """What stands beside each value, the statistic over both, and the places of the rows that take part.

    Raises:
        ConfigError: a subset of the cases, averaged over labels.
    """
    if inside is None:
        return *_averaged(results, cases), list(range(len(cases)))
    if results.view.label is None:
        raise ConfigError("subsets of cases are of one label", where="contrast", fix="look at one label")
    members = [inside(case) for case in cases]
    keep = [place for place, member in enumerate(members) if member is not None]
    return np.array([float(bool(members[place])) for place in keep]), _inside_minus_outside, keep


def _averaged(results: Results, cases: Sequence[CaseOutcome]) -> tuple[Column, Statistic]:
    """The mean over cases; over several labels, the mean of their means, for which each value needs its label."""
    if results.view.label is not None:
        return None, mean
    return np.array([case.label for case in cases], dtype=np.float64), mean_over_labels


def _joined(values: Float[np.ndarray, "rows"], column: Column) -> Float[np.ndarray, "rows *columns"]:
    return values if column is None else np.stack([values, column], axis=1)


def _num_patients(patients: Sequence[str], is_inside: Float[np.ndarray, "cases"] | None) -> int:
    """Patients; of a subset and its counterpart, those of the smaller."""
    sides = [False] * len(patients) if is_inside is None else [member > 0.5 for member in is_inside.tolist()]
    found = [{p for p, at in zip(patients, sides, strict=True) if at is side} for side in (False, True)]
    return len(found[0]) if is_inside is None else min(map(len, found))


def _inside_minus_outside(rows: Float[np.ndarray, "cases 2"]) -> float:
    """Mean of the values inside minus mean of those outside; NaN where either is empty."""
    is_inside = rows[:, 1] > 0.5
    return mean(rows[is_inside, 0]) - mean(rows[~is_inside, 0])


def _values(quantity: str, rows: Sequence[CaseOutcome]) -> Float[np.ndarray, "cases"]:
    if quantity != RIGHT_QUARTILE:
        return QUANTITIES[quantity].values(rows).reshape(len(rows))
    if len(rows) < 4:
        return np.full(len(rows), np.nan)
    cuts = paper_cuts(np.array([o.reference_mm3 for o in rows]))
    return np.array([float(cuts.assign(o.predicted_mm3) == cuts.assign(o.reference_mm3)) for o in rows])


def _unit(quantity: str) -> str:
    return "" if quantity == RIGHT_QUARTILE else QUANTITIES[quantity].unit


def _positive(rows: Sequence[CaseOutcome]) -> list[CaseOutcome]:
    return [o for o in rows if o.is_positive]


def _refuse_unlike(first: Sequence[CaseOutcome], rows: Sequence[CaseOutcome], where: str) -> None:
    """The same cases with the same reference, or nothing is paired."""
    if [(o.case_id, o.label, o.true_positive + o.false_negative) for o in first] != [
        (o.case_id, o.label, o.true_positive + o.false_negative) for o in rows
    ]:
        raise DataError(
            "was judged on other cases or by another reference than the runs beside it",
            where=where,
            fix="draw from rows of one data set",
            code="CASES_DIFFER",
        )
