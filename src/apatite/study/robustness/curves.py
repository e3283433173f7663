"""From rows to curves: what Dice and volume become level after level, with intervals by patient.

At every level a curve is paired with the scans as they are: the drop in Dice and the change of volume are over the same
cases, so the difficulty of the cases cancels. Volumes are compared on logarithms, exp(mean ln((V + 1)/(V' + 1))) with V
in mm³, because errors of volume grow with it and some are 0.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import mean
from apatite.study.intervals import IntervalConfig, difference, interval
from apatite.study.robustness.rows import AS_IS, LevelRow

Pairs = Sequence[tuple[LevelRow, LevelRow]]
"""A case at a level, and as it is."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One level of a curve.

    Attributes:
        level: How much; 0 for the scans as they are.
        num_cases: Cases at this level.
        num_positive: Those of them whose scan, as it is, holds the label.
        estimates: By the names in `QUANTITIES`; over the positive cases but for `false_mm3`.
    """

    level: float
    num_cases: int
    num_positive: int
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One model, one label, one way of getting worse.

    Attributes:
        model: Title in the tables.
        by: Name of the way.
        label: Label value.
        as_is: The scans as they are, all cases that have at least one level.
        points: Levels, ascending.
        thickness_mm: Thinnest and thickest of those scans.
        noise_hu: Median noise in their brain; `None` where none is in view.
    """

    model: str
    by: str
    label: int
    as_is: Point
    points: tuple[Point, ...]
    thickness_mm: tuple[float, float]
    noise_hu: float | None


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One column of the tables.

    Attributes:
        heading: With its unit.
        of: From pairs, patients and settings to the number.
        among: Over cases that hold the label, or over those that do not.
    """

    heading: str
    of: Callable[[Pairs, IntervalConfig], Estimate]
    is_among_free: bool = False


def _over(pairs: Pairs, value: Callable[[LevelRow, LevelRow], float], config: IntervalConfig, unit: str) -> Estimate:
    """Mean over cases of a number of each pair."""
    values = np.array([value(row, before) for row, before in pairs], dtype=np.float64)
    return interval(values, mean, _patients(pairs), config, unit)


def _ratio(
    pairs: Pairs, value: Callable[[LevelRow, LevelRow], tuple[float, float]], config: IntervalConfig
) -> Estimate:
    """Ratio of volumes on the mean of logarithms."""
    logs = _over(pairs, lambda row, before: _log_ratio(*value(row, before)), config, "")
    value_, low, high = (math.exp(part) for part in (logs.value, logs.low, logs.high))
    return Estimate(value=value_, low=low, high=high, unit="", coverage=logs.coverage)


def _drop(pairs: Pairs, config: IntervalConfig) -> Estimate:
    """Mean Dice on the scans as they are minus mean Dice at the level, over cases that have both."""
    known = [pair for pair in pairs if not any(math.isnan(row.dice) for row in pair)]
    before, after = (_column([pair[side].dice for pair in known]) for side in (1, 0))
    return difference(before, after, mean, _patients(known), config)


QUANTITIES: dict[str, Quantity] = {
    "dice": Quantity(heading="Dice", of=lambda pairs, c: _over(pairs, lambda row, _: row.dice, c, "")),
    "dice_drop": Quantity(heading="drop in Dice", of=_drop),
    "volume_bias_mm3": Quantity(
        heading="ΔV to the scan as it is (mm³)",
        of=lambda pairs, c: _over(pairs, lambda row, _: row.predicted_mm3 - row.original_mm3, c, "mm³"),
    ),
    "volume_ratio": Quantity(
        heading="V / reference of the scan as it is",
        of=lambda pairs, c: _ratio(pairs, lambda row, _: (row.predicted_mm3, row.original_mm3), c),
    ),
    "volume_change": Quantity(
        heading="V / the model's own V as it is",
        of=lambda pairs, c: _ratio(pairs, lambda row, before: (row.predicted_mm3, before.predicted_mm3), c),
    ),
    "reference_ratio": Quantity(
        heading="reference of the level / of the scan as it is",
        of=lambda pairs, c: _ratio(pairs, lambda row, _: (row.reference_mm3, row.original_mm3), c),
    ),
    "analytic_ratio": Quantity(
        heading="V / analytic volume",
        of=lambda pairs, c: _ratio(pairs, lambda row, _: (row.predicted_mm3, _or_nan(row.analytic_mm3)), c),
    ),
    "false_mm3": Quantity(
        heading="false volume (mm³)",
        of=lambda pairs, c: _over(pairs, lambda row, _: row.predicted_mm3, c, "mm³"),
        is_among_free=True,
    ),
}
"""By name, as in `summary.json`."""


def curves(rows: Sequence[LevelRow], config: IntervalConfig) -> tuple[Curve, ...]:
    """All curves, by way, then label, then model, in the order of the rows."""
    before = {(row.model, row.label, row.case_id): row for row in rows if row.by == AS_IS}
    ways = dict.fromkeys((row.by, row.label, row.model) for row in rows if row.by != AS_IS)
    order = {by: number for number, by in enumerate(dict.fromkeys(row.by for row in rows))}
    found = []
    for by, label, model in sorted(ways, key=lambda way: (order[way[0]], way[1])):
        chosen = [row for row in rows if (row.by, row.label, row.model) == (by, label, model)]
        found.append(_curve(chosen, before, config))
    return tuple(found)


def _curve(rows: Sequence[LevelRow], before: Mapping[tuple[str, int, str], LevelRow], config: IntervalConfig) -> Curve:
    first = rows[0]
    cases = dict.fromkeys(row.case_id for row in rows)
    as_is = [before[first.model, first.label, case_id] for case_id in cases]
    noise = [row.noise_hu for row in as_is if row.noise_hu is not None]
    thickness = [row.thickness_mm for row in as_is]
    return Curve(
        model=first.model,
        by=first.by,
        label=first.label,
        as_is=_point(0.0, [(row, row) for row in as_is], config),
        points=tuple(
            _point(
                level,
                [(row, before[row.model, row.label, row.case_id]) for row in rows if row.level == level],
                config,
            )
            for level in sorted({row.level for row in rows})
        ),
        thickness_mm=(min(thickness), max(thickness)),
        noise_hu=float(np.median(noise)) if noise else None,
    )


def _point(level: float, pairs: Pairs, config: IntervalConfig) -> Point:
    positive = [pair for pair in pairs if pair[1].is_positive]
    free = [pair for pair in pairs if not pair[1].is_positive]
    return Point(
        level=level,
        num_cases=len(pairs),
        num_positive=len(positive),
        estimates={
            name: quantity.of(free if quantity.is_among_free else positive, config)
            for name, quantity in QUANTITIES.items()
        },
    )


def _log_ratio(one_mm3: float, other_mm3: float) -> float:
    return math.log((one_mm3 + 1) / (other_mm3 + 1))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _column(values: Sequence[float]) -> Float[np.ndarray, "cases"]:
    return np.array(values, dtype=np.float64)


def _patients(pairs: Pairs) -> list[str]:
    return [row.patient_id for row, _ in pairs]
