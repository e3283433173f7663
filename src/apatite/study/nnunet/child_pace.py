"""How many iterations an epoch has, so that a fixed number of epochs ends when the time is up.

Source: nnU-Net trains 1,000 epochs of 250 iterations, with 50 of validation after each.
Differs: the length is a time. The learning rate falls from epoch to epoch as in nnU-Net, so the number of epochs is set
once; what a slower or faster machine changes is the number of iterations in each of those that are left.
"""

import math
import time
from collections.abc import Callable

MOST_ITERATIONS = 250
"""Of an epoch, as in nnU-Net."""
USUAL_EPOCHS = 50
"""A short training has so many steps of its learning rate, if there is time for a few iterations in each."""
TRAIN_PER_VALIDATION = 5
"""Training iterations per validation iteration, as in nnU-Net (250 and 50); the fewest that are planned per epoch."""


class Pace:
    """The clock of one training.

    Args:
        budget_s: How long it may take.
        used_s: How much of that was used before an interruption.
        clock: Seconds.
    """

    def __init__(self, budget_s: float, used_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._ends_at = clock, clock() + budget_s - used_s
        self.budget_s = budget_s
        self.num_epochs = 0
        self.train_s = self.validation_s = self.overhead_s = 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self._ends_at - self._clock()

    @property
    def used_s(self) -> float:
        """Seconds of the budget that are gone."""
        return self.budget_s - self.left_s

    def set_speed(self, train_s: float, validation_s: float, overhead_s: float) -> None:
        """Note seconds per training iteration, per validation iteration, and per epoch besides."""
        self.train_s, self.validation_s, self.overhead_s = train_s, validation_s, overhead_s

    def plan(self) -> int:
        """Set the number of epochs: about 50, or as many as it takes that none has more than 250 iterations."""
        longest_s = MOST_ITERATIONS * self._pair_s() + self.overhead_s
        shortest_s = TRAIN_PER_VALIDATION * self.train_s + self.validation_s + self.overhead_s
        wanted = max(USUAL_EPOCHS, math.ceil(self.left_s / longest_s))
        self.num_epochs = max(1, min(wanted, math.floor(self.left_s / shortest_s)))
        return self.num_epochs

    def iterations(self, epoch: int) -> tuple[int, int]:
        """Training and validation iterations of an epoch that is about to begin, at least one of each."""
        share_s = self.left_s / max(1, self.num_epochs - epoch)
        count = math.floor((share_s - self.overhead_s) / self._pair_s())
        count = max(1, min(count, MOST_ITERATIONS))
        return count, max(1, round(count / TRAIN_PER_VALIDATION))

    def _pair_s(self) -> float:
        """A training iteration with its part of a validation iteration."""
        return self.train_s + self.validation_s / TRAIN_PER_VALIDATION
