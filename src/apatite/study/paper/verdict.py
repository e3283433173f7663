"""Whether a claim holds here, by rules fixed before any run: enough seeds, flat curves, an interval, a margin.

    not decidable   an arm was not run; fewer than three seeds are shared; a development curve still rises; the arms had
                    different numbers of steps; there are fewer than five patients; the interval holds 0; or the seeds
                    disagree
    holds           the interval of the difference lies above 0 and every seed's difference does
    does not hold   the interval lies below 0, or within the margin that counts as no difference, and no seed above it

A difference that is surely above 0 but within the margin does not carry a claim either: it does not hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from apatite.core.volume import Estimate
from apatite.study.intervals import MIN_PATIENTS
from apatite.study.paper.contrasts import Contrast, Membership, Term, contrast, shared_runs
from apatite.study.paper.results import Results

Word = Literal["holds", "does not hold", "not decidable"]
Rule = Literal["more", "alike"]

MIN_SEEDS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """One difference that a claim is about, oriented so that the claim says it is above 0 (or, `alike`, that it is 0).

    Attributes:
        title: Both sides in words.
        terms: Weights and arms.
        inside: With it, the difference between a subset of the cases and its counterpart.
    """

    title: str
    terms: tuple[Term, ...]
    inside: Membership | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one part, or of a whole claim.

    Attributes:
        word: The verdict.
        reason: What decided it, or which condition fails.
        difference: With its interval; None where there is none.
        by_seed: Each seed's own difference.
        num_cases: Cases that took part.
        absent: Arms that were not run.
    """

    word: Word
    reason: str
    difference: Estimate | None = None
    by_seed: tuple[float, ...] = ()
    num_cases: int = 0
    absent: tuple[str, ...] = ()


def judge(results: Results, part: Part, quantity: str, rule: Rule, margin: float) -> Verdict:
    """The verdict on one part.

    Args:
        results: The study.
        part: What is compared.
        quantity: As in `contrasts.sample`.
        rule: Whether the claim is that the difference is above 0, or that there is none to speak of.
        margin: A difference of less than this counts as none.
    """
    arms = [arm for _, arm in part.terms]
    absent = tuple(dict.fromkeys(arm.title for arm in arms if not results.runs(arm)))
    if absent:
        return Verdict(word="not decidable", reason=f"not run: {', '.join(absent)}", absent=absent)
    found = contrast(results, part.terms, quantity, part.inside)
    if found is None:
        return Verdict(word="not decidable", reason="the arms share no seed")
    failing = _failing(found, len(shared_runs(results, arms)))
    word, reason = ("not decidable", "; ".join(failing)) if failing else _decide(found, rule, margin)
    return Verdict(
        word=word,
        reason=reason,
        difference=found.estimate,
        by_seed=tuple(found.by_run.values()),
        num_cases=found.num_cases,
    )


def all_of(verdicts: Sequence[Verdict]) -> Word:
    """A claim of several parts holds where all hold, and does not where any does not."""
    words = [verdict.word for verdict in verdicts]
    if not words or ("does not hold" not in words and "not decidable" in words):
        return "not decidable"
    return "does not hold" if "does not hold" in words else "holds"


def _failing(found: Contrast, num_seeds: int) -> list[str]:
    """The conditions that are not met, each in words."""
    failing = []
    if num_seeds < MIN_SEEDS:
        failing.append(f"{num_seeds} of at least {MIN_SEEDS} seeds")
    unseen = [record.name for record in found.records if not record.curve]
    if unseen:
        failing.append(f"no development curve: {some(unseen)}")
    rising = [record.name for record in found.records if record.curve and not record.is_flat]
    if rising:
        failing.append(f"development curve not flat: {some(rising)}")
    steps = {record.steps for record in found.records if record.kind == "vit"}
    if len(steps) > 1:
        failing.append(f"unequal steps: {some([f'{count:,}' for count in sorted(steps)])}")
    if found.num_patients < MIN_PATIENTS or np.isnan(found.estimate.low):
        failing.append("too few patients for an interval")
    return failing


def _decide(found: Contrast, rule: Rule, margin: float) -> tuple[Word, str]:
    low, high = found.estimate.low, found.estimate.high
    is_within = -margin < low and high < margin
    if rule == "alike":
        if is_within and any(abs(value) >= margin for value in found.by_run.values()):
            return "not decidable", f"a seed lies beyond ± {margin:g}"
        if is_within:
            return "holds", f"the interval lies within ± {margin:g}"
        if low > margin or high < -margin:
            return "does not hold", f"the interval lies beyond ± {margin:g}"
        return "not decidable", f"the interval reaches over ± {margin:g}"
    if (is_within or high < 0) and any(value >= margin for value in found.by_run.values()):
        return "not decidable", f"a seed lies above {margin:g}"
    if is_within:
        return "does not hold", f"the interval lies within ± {margin:g}, which counts as no difference"
    if high < 0:
        return "does not hold", "the interval lies below 0"
    if low <= 0:
        return "not decidable", "the interval holds 0"
    if any(value <= 0 for value in found.by_run.values()):
        return "not decidable", "the seeds disagree in sign"
    return "holds", "the interval and every seed lie above 0"


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
