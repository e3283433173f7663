"""How a teacher is made of its student, and how it is asked: what SMIT, iBOT and DINO differ in besides their terms.

A teacher is a copy of a branch that learns nothing: after each step it moves a little towards its student. It sees the
clean views and gives each cell and each view a distribution over prototypes.

                                  as intended            as released by SMIT
    first weights                 the student's          its own draw
    momentum                      0.996, rising to 1     0.996
    stochastic depth in teacher   off                    on
    temperature of cells          rises from the start   rises from 6 to 12 % of the run on

Source: Caron et al. 2021 (arXiv 2104.14294), Zhou et al. 2022 (arXiv 2111.07832), and the released code of SMIT (Jiang
et al. 2022, arXiv 2205.10342), whose momentum restarts every epoch and so stays where it begins. Ramps are shares of a
run: 30 of its 500 epochs.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from apatite.core.errors import ConfigError
from apatite.nn.taps import Tap

Centring = Literal["centre", "sinkhorn"]


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """The rules of a teacher.

    Attributes:
        momentum: What the teacher keeps of itself at a step.
        momentum_rises: Whether it rises to 1 over the run, as half a cosine.
        copies_student: Whether the teacher begins as its student.
        drops_paths: Whether blocks of the teacher are dropped as those of its student.
        keeps: What the run leaves behind.
        tap: Where in the encoder tokens are read.
        shares_heads: Whether cells and views are projected by one head.
        centring: What keeps one prototype from taking all: a running centre of the logits, or Sinkhorn's scaling.
        cells_centre_momentum, views_centre_momentum: Of the running centres.
        student_temperature: Of the student's distributions.
        temperature: Of the teacher's, at the start and after its ramp.
        views_ramp: Share of the run over which the temperature of views rises.
        cells_ramp_begins: Share of the run after which the temperature of cells begins to rise.
        cells_ramp: Share of the run over which it then rises.
        frozen_share: Share of the run in which the prototypes do not learn.
        anchor_share: Share of the run after which the teacher of the term `gram` becomes the teacher of that moment.
    """

    momentum: float = 0.996
    momentum_rises: bool = True
    copies_student: bool = True
    drops_paths: bool = False
    keeps: Literal["student", "teacher"] = "student"
    tap: Tap = "stage4"
    shares_heads: bool = False
    centring: Centring = "centre"
    cells_centre_momentum: float = 0.9
    views_centre_momentum: float = 0.9
    student_temperature: float = 0.1
    temperature: tuple[float, float] = (0.04, 0.07)
    views_ramp: float = 0.06
    cells_ramp_begins: float = 0.0
    cells_ramp: float = 0.06
    frozen_share: float = 0.002
    anchor_share: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.momentum, self.cells_centre_momentum, self.views_centre_momentum, self.frozen_share)
        ramps = (self.views_ramp, self.cells_ramp_begins, self.cells_ramp)
        if not all(0 <= value < 1 for value in shares) or not all(0 <= value <= 1 for value in ramps):
            raise ConfigError(
                f"momentum {self.momentum}, of centres {self.cells_centre_momentum} and {self.views_centre_momentum},"
                f" ramps {ramps}, frozen_share {self.frozen_share}",
                where="teaching",
                fix="momenta and frozen_share in [0, 1), ramps in [0, 1]",
            )
        if min(self.student_temperature, *self.temperature) <= 0 or not 0 < self.anchor_share <= 1:
            raise ConfigError(
                f"temperatures {self.student_temperature} and {self.temperature}, anchor_share {self.anchor_share}",
                where="teaching",
                fix="temperatures above 0, anchor_share in (0, 1]",
            )

    def momentum_at(self, step: int, steps: int) -> float:
        r"""What the teacher keeps of itself after a step of so many: $1 - (1 - m)(1 + \cos(\pi t / T)) / 2$."""
        if not self.momentum_rises:
            return self.momentum
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * step / steps)) / 2

    def views_temperature(self, step: int, steps: int) -> float:
        """Of the teacher's distributions over views."""
        return self._temperature(step / steps, 0.0, self.views_ramp)

    def cells_temperature(self, step: int, steps: int) -> float:
        """Of the teacher's distributions over cells."""
        return self._temperature(step / steps, self.cells_ramp_begins, self.cells_ramp)

    def _temperature(self, done: float, begins: float, ramp: float) -> float:
        low, high = self.temperature
        risen = 1.0 if done >= begins + ramp else max(0.0, (done - begins) / (ramp or 1.0))
        return low + (high - low) * risen

    def learns_prototypes(self, step: int, steps: int) -> bool:
        """Whether the prototypes learn at a step."""
        return step >= self.frozen_share * steps

    def is_anchored_after(self, step: int, steps: int) -> bool:
        """Whether the anchor is renewed after a step."""
        every = max(1, round(self.anchor_share * steps))
        return (step + 1) % every == 0


@dataclass(frozen=True, kw_only=True)
class TeachingChanges:
    """What a run changes of its method's teaching: every attribute of `Teaching`, `None` leaving it as it is."""

    momentum: float | None = None
    momentum_rises: bool | None = None
    copies_student: bool | None = None
    drops_paths: bool | None = None
    keeps: Literal["student", "teacher"] | None = None
    tap: Tap | None = None
    shares_heads: bool | None = None
    centring: Centring | None = None
    cells_centre_momentum: float | None = None
    views_centre_momentum: float | None = None
    student_temperature: float | None = None
    temperature: tuple[float, float] | None = None
    views_ramp: float | None = None
    cells_ramp_begins: float | None = None
    cells_ramp: float | None = None
    frozen_share: float | None = None
    anchor_share: float | None = None

    def applied_to(self, teaching: Teaching | None) -> Teaching | None:
        """A method's teaching with these changes.

        Raises:
            ConfigError: there are changes, and the method has no teacher.
        """
        changes = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}
        if teaching is None and changes:
            raise ConfigError(
                f"the method has no teacher to set {', '.join(changes)} of",
                where="teaching",
                fix="leave it out, or use a method with a teacher such as smit",
            )
        return None if teaching is None else replace(teaching, **changes)
