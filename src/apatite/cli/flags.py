"""The flags that mean the same in every verb: -i input, -o output, -m model, -d prepared data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, arg

InputPath = Annotated[Path, arg(aliases=("-i",))]
OutputPath = Annotated[Path, arg(aliases=("-o",))]
ModelPath = Annotated[Path, arg(aliases=("-m",))]
PreparedPath = Annotated[Path, arg(aliases=("-d",))]


@dataclass(frozen=True, kw_only=True)
class CommonFlags:
    """Flags of every verb."""

    json: FlagCreatePairsOff[bool] = False
    """Print the result as one JSON object on stdout."""
    debug: FlagCreatePairsOff[bool] = False
    """Show the full traceback of an error."""
