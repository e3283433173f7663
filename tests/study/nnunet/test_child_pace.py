"""A training ends when its time is up, whatever the machine does meanwhile; worked out by hand and simulated."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.study.nnunet.child_pace import MOST_ITERATIONS, Pace


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def simulated(pace: Pace, clock: Clock, speeds: list[tuple[float, float, float]]) -> list[tuple[int, int]]:
    """Train with another speed in each epoch."""
    epochs = []
    for epoch in range(pace.num_epochs):
        train_s, validation_s, overhead_s = speeds[epoch % len(speeds)]
        train, validation = pace.iterations(epoch)
        clock.now += train * train_s + validation * validation_s + overhead_s
        pace.set_speed(train_s, validation_s, overhead_s)
        epochs.append((train, validation))
    return epochs


@pytest.mark.parametrize(
    ("budget_s", "epochs", "iterations"),
    [
        # 0.5 + 0.25 / 5 = 0.55 s per iteration: 50 epochs of 72 s, (72 - 1) / 0.55 = 129.09 of them in each.
        (3600.0, 50, (129, 26)),
        # 250 × 0.55 + 1 = 138.5 s: ceil(36000 / 138.5) = 260 epochs; (138.46 - 1) / 0.55 = 249.9.
        (36000.0, 260, (249, 50)),
        # 5 × 0.5 + 0.25 + 1 = 3.75 s for the shortest epoch: floor(20 / 3.75) = 5; (20 / 5 - 1) / 0.55 = 5.45.
        (20.0, 5, (5, 1)),
        (0.5, 1, (1, 1)),
    ],
)
def test_the_schedule_by_hand(budget_s, epochs, iterations):
    pace = Pace(budget_s, clock=Clock())
    pace.set_speed(0.5, 0.25, 1.0)
    assert pace.plan() == epochs
    assert pace.iterations(0) == iterations


def test_what_was_used_before_an_interruption_counts():
    clock = Clock()
    pace = Pace(100.0, used_s=40.0, clock=clock)
    assert (pace.left_s, pace.used_s) == (60.0, 40.0)
    clock.now += 25.0
    assert (pace.left_s, pace.used_s) == (35.0, 65.0)
    pace.set_speed(1.0, 0.0, 0.0)
    pace.num_epochs = 10
    assert pace.iterations(3) == (5, 1)


@settings(deadline=None, max_examples=60)
@given(
    budget_s=st.floats(300, 3600),
    speeds=st.lists(st.tuples(st.floats(0.1, 0.5), st.floats(0.05, 0.2), st.floats(0.0, 0.5)), min_size=1, max_size=5),
)
def test_it_ends_within_an_epoch_s_rounding_of_the_budget(budget_s, speeds):
    clock = Clock()
    pace = Pace(budget_s, clock=clock)
    pace.set_speed(*speeds[0])
    pace.plan()
    epochs = simulated(pace, clock, speeds)
    assert all(1 <= train <= MOST_ITERATIONS and 1 <= validation <= 50 for train, validation in epochs)
    # The last epoch is as long as its own speed makes it: at most the share of one epoch at a fivefold speed, and an
    # iteration of each kind.
    rounding_s = 5 * budget_s / len(epochs) + 1.0 + max(sum(speed) for speed in speeds)
    assert pace.left_s >= -rounding_s
    # It ends early only where a machine became so fast that epochs are as long as they may be.
    assert pace.left_s <= rounding_s or max(train for train, _ in epochs) == MOST_ITERATIONS


def test_a_machine_that_becomes_twice_as_slow_gets_fewer_iterations_not_more_time():
    clock = Clock()
    pace = Pace(600.0, clock=clock)
    pace.set_speed(0.1, 0.05, 0.2)
    pace.plan()
    epochs = simulated(pace, clock, [(0.1, 0.05, 0.2)] * 25 + [(0.2, 0.1, 0.4)] * 25)
    assert epochs[0][0] > 1.9 * epochs[-1][0]
    assert -1.0 < pace.left_s < 3.0
