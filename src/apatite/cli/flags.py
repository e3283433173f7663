"""The flags that mean the same in every verb: -i input, -o output, -m model, -d prepared data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

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


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(CommonFlags):
    """Flags of the verbs that train."""

    data: PreparedPath
    """Prepared folder, from `apatite prepare`."""
    out: OutputPath
    """Run folder; must not exist unless --resume."""
    recipe: str = "small"
    """Name from `apatite list recipes`."""
    config: Path | None = None
    """YAML file with the same keys instead of the recipe; for example an earlier run's config.yaml."""
    resume: FlagCreatePairsOff[bool] = False
    """Go on in an interrupted run; begin it where there is none."""
    inexact_resume: FlagCreatePairsOff[bool] = False
    """With --resume: accept that this machine rounds differently from the one where the run began."""
    settings: Positional[tuple[str, ...]] = ()
    """Values to change: key=value, for example batch=8 optim.lr=5e-4."""

    @property
    def resumes(self) -> bool | Literal["inexact"]:
        """Both flags as the library wants them."""
        return "inexact" if self.resume and self.inexact_resume else self.resume
