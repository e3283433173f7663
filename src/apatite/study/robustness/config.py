"""How robustness is measured: which ways of getting worse, against what, and what counts as holding."""

from dataclasses import dataclass, field
from typing import Literal

from apatite.core.errors import ConfigError
from apatite.ct.degrade.degradation import Degradation
from apatite.ct.degrade.registry import DEGRADATIONS, parse_ladders
from apatite.study.intervals import IntervalConfig
from apatite.study.robustness.rescan import RESCANS


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """When a model holds at a level; stated before anything is measured.

    Attributes:
        dice_drop: The upper end of the interval of the drop in Dice is at most this.
        volume_bias: The model's volume differs from that of the reference on the undegraded scan by at most this
            share, on the mean of logarithms.
        least_positive: Fewer cases with the label than this show nothing.
    """

    dice_drop: float = 0.05
    volume_bias: float = 0.25
    least_positive: int = 10

    def __post_init__(self) -> None:
        if not (0 < self.dice_drop < 1 and 0 < self.volume_bias < 1 and self.least_positive >= 2):
            raise ConfigError(
                f"drop {self.dice_drop}, bias {self.volume_bias}, {self.least_positive} cases are no criteria",
                where="criteria",
                fix="use shares between 0 and 1, and at least 2 cases",
            )


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """How robustness is measured.

    Attributes:
        by: Names of ways, each perhaps with levels of its own: `noise`, `thickness=2,5`. Empty takes all that apply.
        rescan: Phantoms only: scan the same patients again with one thing changed, and let their perfect reader be the
            reference, instead of degrading the scans at hand.
        thin_mm: Slices of more than this are no thin scan, and take no part in the curve over thickness.
        reading: Whether calcium counts from 130 HU on only, as in `quantify`, or all that is predicted.
        criteria: When a model holds.
        intervals: Bootstrap settings.
        seed: Of noise and directions.
    """

    by: tuple[str, ...] = ()
    rescan: bool = False
    thin_mm: float = 1.5
    reading: Literal["gated", "ungated"] = "gated"
    criteria: Criteria = field(default_factory=Criteria)
    intervals: IntervalConfig = field(default_factory=IntervalConfig)
    seed: int = 0

    def ladders(self, *, has_region: bool = True) -> dict[str, tuple[Degradation, ...]]:
        """The ways and their levels, by name.

        Args:
            has_region: Whether the models look at one region; only then can it be off its place.

        Raises:
            ConfigError: an unknown name or a level without sense, or `pose` without a region.
        """
        table = RESCANS if self.rescan else DEGRADATIONS
        names = self.by or tuple(name for name in table if has_region or name != "pose")
        ladders = parse_ladders(names, table)
        if "pose" in ladders and not has_region:
            raise ConfigError("whole volumes have no region that could be off its place", fix="leave pose out")
        return ladders


STANDARD = RobustnessConfig()
"""What is used where nothing else is asked for."""
