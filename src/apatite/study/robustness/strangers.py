"""Scanners that training never saw, against those it saw.

Unpaired: cases that fit what was held out against the others, which are other patients with other calcium. Paired,
where phantoms were scanned again as every vendor scans: the same patients, a held-out vendor against the mean over the
others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from apatite.core.volume import Estimate
from apatite.io.case import Case
from apatite.io.hold_out import is_held_out
from apatite.metrics.bootstrap import mean
from apatite.phantom.protocol import VENDORS
from apatite.study.intervals import IntervalConfig, difference, interval
from apatite.study.robustness.rows import AS_IS, LevelRow


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """Dice on what was held out minus Dice on what was seen.

    Attributes:
        model: Title in the tables.
        label: Label value.
        what: What was held out.
        is_paired: Whether both are the same patients.
        num_held_out, num_seen: Cases with the label.
        held_out, seen: Mean Dice.
        difference: Held out minus seen; below 0 where strangers are harder.
    """

    model: str
    label: int
    what: str
    is_paired: bool
    num_held_out: int
    num_seen: int
    held_out: Estimate
    seen: Estimate
    difference: Estimate


def strangers(
    rows: Sequence[LevelRow], held_out: Mapping[str, Sequence[str]], config: IntervalConfig
) -> tuple[Stranger, ...]:
    """All that can be said of the models that held something out.

    Args:
        rows: Of all models.
        held_out: Title of a model to its rules, as its card states them.
        config: How intervals are computed.
    """
    found: list[Stranger] = []
    for model, label in dict.fromkeys((row.model, row.label) for row in rows):
        rules = held_out.get(model, ())
        own = [row for row in rows if (row.model, row.label) == (model, label) and not math.isnan(row.dice)]
        if rules and own:
            found += [_unpaired(own, rules, config), *_paired(own, rules, config)]
    return tuple(found)


def _unpaired(rows: Sequence[LevelRow], rules: Sequence[str], config: IntervalConfig) -> Stranger:
    """The scans as they are, in two groups; a patient with scans in both is drawn with both."""
    chosen = [row for row in rows if row.by == AS_IS and row.is_positive]
    groups = {is_out: [row for row in chosen if row.is_stranger == is_out] for is_out in (True, False)}
    patients = [row.patient_id for row in chosen]
    values = np.array([[row.dice, float(row.is_stranger)] for row in chosen], dtype=np.float64).reshape(-1, 2)
    means = {
        is_out: interval(_dice(group), mean, [row.patient_id for row in group], config)
        for is_out, group in groups.items()
    }
    return Stranger(
        model=rows[0].model,
        label=rows[0].label,
        what=", ".join(rules),
        is_paired=False,
        num_held_out=len(groups[True]),
        num_seen=len(groups[False]),
        held_out=means[True],
        seen=means[False],
        difference=interval(values, _difference_of_means, patients, config),
    )


def _paired(rows: Sequence[LevelRow], rules: Sequence[str], config: IntervalConfig) -> list[Stranger]:
    """The same patients as each held-out vendor scans, minus their mean over the vendors that were seen."""
    again = [row for row in rows if row.by == "vendor" and row.is_positive]
    names = list(VENDORS)
    out = [name for name in names if is_held_out(_scanned_by(name), [r for r in rules if r.startswith("vendor=")])]
    if not again or not out:
        return []
    cases = {row.case_id: row.patient_id for row in again}
    table = np.full((len(cases), len(names)), np.nan)
    for row in again:
        table[list(cases).index(row.case_id), int(row.level) - 1] = row.dice
    is_out = np.array([name in out for name in names])
    full = np.flatnonzero(~np.isnan(table).any(axis=1))
    patients = [list(cases.values())[row] for row in full]
    a, b = table[full][:, is_out].mean(axis=1), table[full][:, ~is_out].mean(axis=1)
    return [
        Stranger(
            model=rows[0].model,
            label=rows[0].label,
            what=", ".join(f"vendor={name}" for name in out),
            is_paired=True,
            num_held_out=len(patients),
            num_seen=len(patients),
            held_out=interval(a, mean, patients, config),
            seen=interval(b, mean, patients, config),
            difference=difference(a, b, mean, patients, config),
        )
    ]


def _difference_of_means(values: Float[np.ndarray, "cases 2"]) -> float:
    is_out = values[:, 1] > 0
    if not is_out.any() or is_out.all():
        return math.nan
    return float(values[is_out, 0].mean() - values[~is_out, 0].mean())


def _dice(rows: Sequence[LevelRow]) -> Float[np.ndarray, "cases"]:
    return np.array([row.dice for row in rows], dtype=np.float64)


def _scanned_by(vendor: str) -> Case:
    return Case(case_id="x", patient_id="x", image="x", vendor=vendor)
