"""Every path to a verdict, on records whose truth is known; and the traps on the way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from apatite.study.paper.results import Results
from apatite.study.paper.verdict import Part, Verdict, Word, all_of, judge, some
from apatite.study.sweep.record import outcomes_of, write_record


def two(results: Results) -> Part:
    first, second = results.arm("pre-trained", init="mae"), results.arm("scratch", init="scratch")
    return Part(title="first − second", terms=((1.0, first), (-1.0, second)))


def add(sweep: Any, levels: Sequence[float], against: float = 0.5, spread: float = 0.03, **changes: Any) -> None:
    """One pair of runs per level."""
    for seed, level in enumerate(levels):
        sweep.add(sweep.noisy(level, 1, seed, spread=spread), seed=seed, **changes)
        sweep.add(sweep.noisy(against, 2, seed, spread=spread), seed=seed, init="scratch")


def verdict(sweep: Any, rule: Any = "more", margin: float = 0.01) -> Verdict:
    results = sweep.results()
    return judge(results, two(results), "dice", rule, margin)


def test_a_clear_gain_in_every_seed_holds(sweep: Any):
    add(sweep, (0.60, 0.61, 0.59))
    found = verdict(sweep)
    assert found.word == "holds"
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.1, abs=0.02)
    assert found.difference.low > 0
    assert len(found.by_seed) == 3
    assert found.num_cases == 16


def test_two_seeds_decide_nothing(sweep: Any):
    add(sweep, (0.60, 0.61))
    found = verdict(sweep)
    assert (found.word, found.reason) == ("not decidable", "2 of at least 3 seeds")
    assert found.difference is not None


def test_three_seeds_on_one_side_only_decide_nothing(sweep: Any):
    add(sweep, (0.60, 0.61))
    sweep.add(0.62, seed=2)
    assert verdict(sweep).reason == "2 of at least 3 seeds"


def test_seeds_that_are_not_shared_are_no_seeds(sweep: Any):
    for seed in range(3):
        sweep.add(0.6, seed=seed)
        sweep.add(0.5, seed=seed + 3, init="scratch")
    found = verdict(sweep)
    assert (found.word, found.reason) == ("not decidable", "the arms share no seed")


def test_one_curve_that_still_rises_decides_nothing(sweep: Any):
    add(sweep, (0.60, 0.61, 0.59))
    rising = sweep.add(0.5, seed=2, init="scratch", flat=False)
    found = verdict(sweep)
    assert (found.word, found.reason) == ("not decidable", f"development curve not flat: {rising.name}")


def test_a_run_without_a_curve_decides_nothing(stored: Any):
    add(stored, (0.60, 0.61, 0.59))
    record = stored.results().records[0]
    write_record(stored.folder, replace(record, curve=(), is_flat=False), {"test": outcomes_of(record, "test")})
    assert verdict(stored).reason == f"no development curve: {record.name}"


def test_unequal_steps_decide_nothing(sweep: Any):
    add(sweep, (0.60, 0.61, 0.59), steps=1200)
    found = verdict(sweep)
    assert (found.word, found.reason) == ("not decidable", "unequal steps: 600, 1,200")


def test_a_missing_arm_is_named(sweep: Any):
    for seed in range(3):
        sweep.add(0.6, seed=seed)
    found = verdict(sweep)
    assert (found.word, found.reason, found.absent) == ("not decidable", "not run: scratch", ("scratch",))


def test_an_interval_over_zero_decides_nothing(sweep: Any):
    add(sweep, (0.51, 0.51, 0.51), spread=0.12)
    found = verdict(sweep)
    assert (found.word, found.reason) == ("not decidable", "the interval holds 0")


def test_seeds_of_both_signs_decide_nothing(sweep: Any):
    add(sweep, (0.62, 0.62, 0.47), spread=0.01)
    found = verdict(sweep)
    assert found.difference is not None
    assert found.difference.low > 0
    assert min(found.by_seed) < 0
    assert (found.word, found.reason) == ("not decidable", "the seeds disagree in sign")


def test_a_loss_does_not_hold(sweep: Any):
    add(sweep, (0.40, 0.41, 0.42))
    found = verdict(sweep)
    assert (found.word, found.reason) == ("does not hold", "the interval lies below 0")


def test_no_difference_to_speak_of_does_not_hold(sweep: Any):
    add(sweep, (0.502, 0.502, 0.502), spread=0.0)
    found = verdict(sweep, margin=0.02)
    assert found.word == "does not hold"
    assert "within ± 0.02" in found.reason


def test_a_sure_but_tiny_gain_does_not_hold(sweep: Any):
    add(sweep, (0.53, 0.53, 0.53), spread=0.0)
    assert verdict(sweep, margin=0.01).word == "holds"
    assert verdict(sweep, margin=0.05).word == "does not hold"


@pytest.mark.parametrize("cases", [1, 4])
def test_a_handful_of_patients_decides_nothing(sweep: Any, cases: int):
    for seed in range(3):
        sweep.add(sweep.noisy(0.6, 1, seed, spread=0.01), seed=seed, cases=cases)
        sweep.add(sweep.noisy(0.5, 2, seed, spread=0.01), seed=seed, init="scratch", cases=cases)
    found = verdict(sweep)
    assert (found.word, found.reason) == ("not decidable", "too few patients for an interval")


@pytest.mark.parametrize(
    ("level", "spread", "word"),
    [(0.5, 0.005, "holds"), (0.6, 0.01, "does not hold"), (0.4, 0.01, "does not hold"), (0.52, 0.08, "not decidable")],
)
def test_alike_is_a_matter_of_the_margin(sweep: Any, level: float, spread: float, word: Word):
    add(sweep, (level,) * 3, spread=spread)
    assert verdict(sweep, rule="alike", margin=0.02).word == word


def test_seeds_that_cancel_are_not_alike(sweep: Any):
    add(sweep, (0.58, 0.42, 0.50), spread=0.0)
    found = verdict(sweep, rule="alike", margin=0.02)
    assert (found.word, found.reason) == ("not decidable", "a seed lies beyond ± 0.02")


def test_a_gain_in_one_seed_is_not_the_absence_of_a_gain(sweep: Any):
    add(sweep, (0.60, 0.40, 0.50), spread=0.0)
    found = verdict(sweep, margin=0.02)
    assert (found.word, found.reason) == ("not decidable", "a seed lies above 0.02")


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (("holds", "holds"), "holds"),
        (("holds", "not decidable"), "not decidable"),
        (("holds", "does not hold"), "does not hold"),
        (("not decidable", "does not hold"), "does not hold"),
        ((), "not decidable"),
    ],
)
def test_a_claim_needs_all_of_its_parts(words: tuple[Word, ...], whole: Word):
    assert all_of([Verdict(word=word, reason="") for word in words]) == whole


def test_long_lists_are_cut():
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcde")) == "a, b, c and 2 more"
