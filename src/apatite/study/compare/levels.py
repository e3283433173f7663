"""A model's own figures: the interval says how they vary with the patients, the runs how they vary with the training.

The two are different questions. An interval over patients holds the weights fixed; two trainings that differ in the
seed alone can be further apart than it is wide, and a difference smaller than that is one between two draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apatite.core.volume import Estimate
from apatite.study.compare.contrast import Runs
from apatite.study.differences import paired_values
from apatite.study.intervals import IntervalConfig, interval
from apatite.study.quantities import QUANTITIES


@dataclass(frozen=True, kw_only=True)
class Level:
    """A quantity of one model.

    Attributes:
        quantity: Name in `QUANTITIES`.
        label: Label value.
        hu_gate: As in the outcomes.
        model: The model.
        num_cases: Cases in which it has a value in every training.
        estimate: Mean over the trainings, with its interval by patient.
        run_values: The quantity in each training, over the same cases.
    """

    quantity: str
    label: int
    hu_gate: float | None
    model: str
    num_cases: int
    estimate: Estimate
    run_values: tuple[float, ...]

    @property
    def run_sd(self) -> float:
        """Standard deviation over trainings (n − 1); nan with a single one."""
        return float(np.std(self.run_values, ddof=1)) if len(self.run_values) > 1 else math.nan

    @property
    def run_range(self) -> tuple[float, float]:
        """The lowest and the highest training."""
        return min(self.run_values), max(self.run_values)


def level(quantity_name: str, model: tuple[str, Runs], config: IntervalConfig) -> Level:
    """A model's own figure, and that of each of its trainings."""
    quantity = QUANTITIES[quantity_name]
    name, runs = model
    # A model beside itself: the cases in which every training has a value.
    own = paired_values(quantity, runs, runs)
    of_runs = [paired_values(quantity, [run], runs).model for run in runs]
    return Level(
        quantity=quantity_name,
        label=runs[0][0].label,
        hu_gate=runs[0][0].hu_gate,
        model=name,
        num_cases=len(own.patients),
        estimate=interval(own.model, quantity.statistic, own.patients, config, quantity.unit),
        run_values=tuple(quantity.statistic(values) if len(values) else math.nan for values in of_runs),
    )


def levels(model: tuple[str, Runs], quantities: Sequence[str], config: IntervalConfig) -> list[Level]:
    """All figures of one model on one label and one HU gate."""
    return [level(name, model, config) for name in quantities]
