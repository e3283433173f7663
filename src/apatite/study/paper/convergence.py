"""How soon fine-tuning gets somewhere: the first look at which a run reaches most of what scratch ends with.

Development curves are compared run by run, so this is about seeds and not about patients: there is no interval. The
goal is the same for all methods of a seed, and does not move with a method's own end.

Source: that SMIT converges fastest is said in one of two abstracts of arXiv 2605.18491; how it was measured is not.
Differs: so the measure is ours.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from apatite.study.paper.results import Arm, Results, Run
from apatite.study.paper.verdict import MIN_SEEDS, Verdict, some
from apatite.study.sweep.record import Record

GOAL_SHARE: Final = 0.9
"""Of the last Dice of the run from scratch."""
MIN_LOOKS: Final = 5
"""Of which a curve has to consist: with fewer, every run gets there at the same look."""
NEVER: Final = float("inf")


@dataclass(frozen=True, kw_only=True)
class Reached:
    """When one run reached its goal.

    Attributes:
        goal: Dice on development.
        step: The first look at which it was there; infinite where it never was.
    """

    goal: float
    step: float


def reached(results: Results, arm: Arm, scratch: Arm) -> dict[Run, Reached]:
    """Of each run of an arm whose twin from scratch is done, too."""
    found: dict[Run, Reached] = {}
    twins = results.runs(scratch)
    for run, record in results.runs(arm).items():
        if run in twins and record.curve and twins[run].curve:
            goal = GOAL_SHARE * twins[run].curve[-1][1]
            found[run] = Reached(goal=goal, step=first_step(record, goal))
    return found


def first_step(record: Record, goal: float) -> float:
    """Steps done at the first look with at least that Dice; nothing is interpolated between looks."""
    return next((float(step) for step, dice in record.curve if dice >= goal), NEVER)


def sooner(results: Results, first: Arm, second: Arm, scratch: Arm) -> Verdict:
    """Whether one arm reaches the goal in fewer steps than another, in every seed.

    Args:
        results: The study.
        first: Said to be the sooner one.
        second: Compared with it.
        scratch: Sets the goal of each seed; may be `second`.
    """
    arms = (first, second, scratch)
    absent = tuple(dict.fromkeys(arm.title for arm in arms if not results.runs(arm)))
    if absent:
        return Verdict(word="not decidable", reason=f"not run: {', '.join(absent)}", absent=absent)
    steps = [reached(results, arm, scratch) for arm in (first, second)]
    shared = [run for run in steps[0] if run in steps[1]]
    gains = tuple(_gain(steps[0][run].step, steps[1][run].step) for run in shared)
    records = [record for arm in arms for run, record in results.runs(arm).items() if run in shared]
    if failing := _failing(records, len(shared)):
        return Verdict(word="not decidable", reason="; ".join(failing), by_seed=gains)
    if any(np.isnan(gain) for gain in gains):
        return Verdict(word="not decidable", reason="neither gets there", by_seed=gains)
    if all(gain > 0 for gain in gains):
        return Verdict(word="holds", reason="every seed gets there at an earlier look", by_seed=gains)
    if all(gain <= 0 for gain in gains):
        return Verdict(word="does not hold", reason="no seed gets there at an earlier look", by_seed=gains)
    return Verdict(word="not decidable", reason="the seeds disagree", by_seed=gains)


def _gain(first: float, second: float) -> float:
    """Steps that are saved; NaN where neither gets there."""
    return float("nan") if first == second == NEVER else second - first


def _failing(records: list[Record], num_seeds: int) -> list[str]:
    """The conditions that are not met, each in words."""
    failing = [f"{num_seeds} of at least {MIN_SEEDS} seeds"] if num_seeds < MIN_SEEDS else []
    if len({tuple(step for step, _ in record.curve) for record in records}) > 1:
        failing.append("looked at after different steps")
    seldom = [record.name for record in records if len(record.curve) < MIN_LOOKS]
    if seldom:
        failing.append(f"fewer than {MIN_LOOKS} looks: {some(list(dict.fromkeys(seldom)))}")
    rising = [record.name for record in records if record.axes.get("init") == "scratch" and not record.is_flat]
    if rising:
        failing.append(f"the goal still rises: {some(list(dict.fromkeys(rising)))}")
    return failing
