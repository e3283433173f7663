"""What a comparison is about: quantities, margins, strata; all of it stated before anything is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.study.intervals import IntervalConfig
from apatite.study.quantities import QUANTITIES
from apatite.study.strata import SIZE_CUTS_MM3, refuse_unordered

FAMILY: Final = (
    "dice", "precision", "recall", "volume_error_mm3", "lesion_f1", "surface_dice", "hd95_mm", "betti_error",
)  # fmt: skip
"""The quantities whose tests are corrected together."""

MARGINS: Final[Mapping[str, float]] = MappingProxyType({"dice": 0.02, "volume_error_mm3": 10.0})
"""What two models may differ by and still be as good, in the quantity's unit: 0.02 Dice and 10 mm³ are below what two
readers differ by, but they are a choice; state your own before you look."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """How models are compared.

    Attributes:
        intervals: Bootstrap settings.
        quantities: Names in `QUANTITIES`; their tests are one family.
        margins: Quantity → margin of non-inferiority; those without one are not judged by a margin.
        size_cuts_mm3: Between small, medium and large reference volumes.
        burden_label: The label that has burden groups; None where none has (organs).
    """

    intervals: IntervalConfig = field(default_factory=lambda: IntervalConfig(resamples=10_000))
    quantities: tuple[str, ...] = FAMILY
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    size_cuts_mm3: tuple[float, float] = SIZE_CUTS_MM3
    burden_label: int | None = 1

    def __post_init__(self) -> None:
        refuse_unordered(self.size_cuts_mm3)
        for name in (*self.quantities, *self.margins):
            quantity = choose(QUANTITIES, name, "quantity")
            if quantity.better == "near zero":
                raise ConfigError(
                    f"{name} is neither better when higher nor when lower", fix="compare volume_error_mm3 instead"
                )
        if not self.quantities or len(set(self.quantities)) != len(self.quantities):
            raise ConfigError("the quantities are none, or one stands twice", fix="name each once")
        for name, margin in self.margins.items():
            if name not in self.quantities:
                raise ConfigError(f"{name} has a margin but is not compared", fix="add it to the quantities")
            if not 0 < margin < float("inf"):
                raise ConfigError(f"a margin of {margin} for {name} leaves nothing to be equal", fix="use a number > 0")


STANDARD = CompareConfig()
"""What is used where nothing else is asked for."""
