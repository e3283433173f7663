"""What the command was given, as names and paths: `runs/scratch`, `ours=runs/tuned`, `ours=runs/s0,runs/s1,runs/s2`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apatite.core.errors import ConfigError
from apatite.study.compare.sides import base_name, run_name


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One argument.

    Attributes:
        name: As the user calls it; empty where the path names it.
        paths: One per training.
    """

    name: str
    paths: tuple[Path, ...]

    def title(self, number: int) -> str:
        """The name of the number-th path (from 0), where the user gave one."""
        return run_name(self.name, number + 1) if len(self.paths) > 1 else self.name


def entrants_of(arguments: Sequence[str]) -> list[Entrant]:
    """Read the arguments.

    Args:
        arguments: A path each, or `name=path`, or `name=path,path,…` for trainings of one model.

    Raises:
        ConfigError: fewer than one argument, a path that is not there or stands twice, or a name that is taken or means
            something else.
    """
    if not arguments:
        raise ConfigError("nobody is to be compared", fix="give models, label maps or tables of outcomes")
    found = [_entrant(argument) for argument in arguments]
    _refuse_twice([entrant.name for entrant in found if entrant.name], "names")
    _refuse_twice([str(path.resolve()) for entrant in found for path in entrant.paths], "paths")
    return found


def _refuse_twice(several: Sequence[str], what: str) -> None:
    twice = [one for one in several if several.count(one) > 1]
    if twice:
        raise ConfigError(f"two of the {what} are {twice[0]!r}", fix="give each once")


def _entrant(argument: str) -> Entrant:
    # A path may hold an equals sign; what exists is a path.
    if Path(argument).exists():
        return Entrant(name="", paths=(Path(argument),))
    name, equals, rest = argument.partition("=")
    if not equals:
        raise ConfigError("there is no such file or folder", where=argument, fix="check the path, or write NAME=PATH")
    name = name.strip()
    if not name or base_name(name) != name or "#" in name:
        raise ConfigError(f"{name!r} is no name for a model", where=argument, fix="use letters, digits, - and _")
    paths = tuple(Path(part) for part in rest.split(",") if part)
    missing = [path for path in paths if not path.exists()]
    if missing or not paths:
        shown = str(missing[0]) if missing else "no path"
        raise ConfigError(f"there is no such file or folder: {shown}", where=argument, fix="check the path")
    return Entrant(name=name, paths=paths)
