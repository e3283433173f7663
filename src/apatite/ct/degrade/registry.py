"""Every way of degrading a scan, by name."""

from collections.abc import Sequence
from typing import Final

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.ct.degrade.degradation import Degradation
from apatite.ct.degrade.pose import OffCentre
from apatite.ct.degrade.texture import Blur, Noise, Offset, Sharpen
from apatite.ct.degrade.thickness import ThickSlices

DEGRADATIONS: Final[dict[str, type[Degradation]]] = {
    "thickness": ThickSlices,
    "noise": Noise,
    "blur": Blur,
    "sharpen": Sharpen,
    "offset": Offset,
    "pose": OffCentre,
}
"""By name, in the order of the pages."""


def parse_ladder(text: str, table: dict[str, type[Degradation]]) -> tuple[str, tuple[Degradation, ...]]:
    """A name, or a name with levels of one's own: `noise`, `noise=5,10,40`.

    Args:
        text: What a user wrote.
        table: `DEGRADATIONS`, or more ways than those.

    Returns:
        The name and one degradation per level, ascending.

    Raises:
        ConfigError: an unknown name, a level that is no number or makes no sense, or one twice.
    """
    name, equals, written = text.partition("=")
    kind = choose(table, name, "degradation")
    try:
        levels = [float(level) for level in written.split(",")] if equals else list(kind.levels)
    except ValueError as error:
        raise ConfigError(f"{written!r} are no levels", where=name, fix=f"write {name}=1,2,5") from error
    if len(set(levels)) != len(levels):
        raise ConfigError("a level stands twice", where=name, fix="give each level once")
    try:
        return name, tuple(kind(level=level) for level in sorted(levels))
    except ConfigError as error:
        error.where = name
        raise


def parse_ladders(texts: Sequence[str], table: dict[str, type[Degradation]]) -> dict[str, tuple[Degradation, ...]]:
    """Several of them, by name, in the order given.

    Raises:
        ConfigError: as `parse_ladder`, or a name stands twice.
    """
    ladders: dict[str, tuple[Degradation, ...]] = {}
    for text in texts:
        name, ladder = parse_ladder(text, table)
        if name in ladders:
            raise ConfigError(f"{name!r} is given twice", fix="give all its levels at once")
        ladders[name] = ladder
    return ladders
