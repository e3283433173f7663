"""A grid file: recipes, and blocks of axes whose product are the rows of a sweep.

    tier: small
    pretrain: {recipe: sweep}
    finetune: {recipe: sweep, change: [steps=600]}
    blocks:
      - axes: {patch: [4, 8], init: [scratch, mae]}
      - axes: {arm: [nnunet]}

Keys are strict. A block that changes a recipe has a name, which becomes part of the names of its rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, get_args

from apatite.core.config import load, override, read_yaml
from apatite.core.errors import ConfigError
from apatite.core.registry import nearest
from apatite.study.sweep.rows import ALL, SCRATCH, VIT

Tier = Literal["small", "paper", "own"]
Patch = int | tuple[int, int, int]
Labels = int | Literal["all"]
Reader = Literal["perfect", "reader", "openkbp", "synapse", "btcv", "acdc", "msd_lung", "msd_brats"]
"""Those of a phantom cohort, and those who annotated a published data set."""
READERS: Final[tuple[str, ...]] = get_args(Reader)
Arm = Literal["vit", "nnunet"]
Network = Literal["vit", "unetrpp", "hybrid", "hybrid_decoder", "swin"]
Taken = Literal["encoder", "embedding"]
Upsampling = Literal["nearest", "transposed"]

AXIS_KEYS = (
    "method", "network", "model", "patch", "seed", "decoder.name", "decoder.upsampling", "num_labelled", "draw", "take"
)  # fmt: skip
"""Keys of the configurations that axes set; changing one behind a row's name would make the name a lie."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Values whose product is taken; an axis that is not named has the grid's default.

    Attributes:
        arm: `vit`, one of the package's own networks, or `nnunet` run for real.
        network: Keys of `segment.networks.NETWORKS`; `vit` has an encoder and a decoder by name, the others have
            neither axis.
        model: Keys of `nn.models.MODELS`.
        patch: Edges in voxels: one number for a cube, or depth, height, width; a Swin has its own.
        decoder: Keys of `nn.decoders.registry.DECODERS`.
        upsampling: Of the decoders that have a choice.
        init: `scratch`, a pre-training method, the name of a pre-training row of this grid, `scratch-equal-time`, or
            two methods as in `mae_euler-as-long-as-mae_topology`.
        take: What is taken over from the encoder.
        labels: How many labelled cases, or `all`.
        draw: Which ones.
        seed: Of weights and draws.
        reader: Whose labels are learned from.
    """

    arm: tuple[Arm, ...] = ()
    network: tuple[Network, ...] = ()
    model: tuple[str, ...] = ()
    patch: tuple[Patch, ...] = ()
    decoder: tuple[str, ...] = ()
    upsampling: tuple[Upsampling, ...] = ()
    init: tuple[str, ...] = ()
    take: tuple[Taken, ...] = ()
    labels: tuple[Labels, ...] = ()
    draw: tuple[int, ...] = ()
    seed: tuple[int, ...] = ()
    reader: tuple[Reader, ...] = ()

    def __post_init__(self) -> None:
        numbers = [value for values in (self.labels, self.draw, self.seed) for value in values if value != ALL]
        if any(int(value) < 0 for value in numbers) or 0 in self.labels:
            raise ConfigError("a number of labels, a draw or a seed is too small", where="axes", fix="use 0, 1, 2, …")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Where a row stands on the axes that its block does not name; see `Axes`."""

    arm: Arm = VIT
    network: Network = VIT
    model: str = "vitiac-xs"
    patch: Patch = 4
    decoder: str = "mae"
    upsampling: Upsampling = "nearest"
    init: str = SCRATCH
    take: Taken = "encoder"
    labels: Labels = ALL
    draw: int = 0
    seed: int = 0
    reader: Reader = "perfect"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A recipe and what is changed in it for every row; a method without a teacher reads nothing of its settings.

    Attributes:
        recipe: Its name.
        change: Assignments such as `steps=600`.
    """

    recipe: str = "small"
    change: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_axes(self.change)


@dataclass(frozen=True, kw_only=True)
class NnunetBase:
    """What every row of nnU-Net is given.

    Attributes:
        minutes: Training time; the schedule of its learning rate ends there.
        change: Assignments to its configuration.
    """

    minutes: float = 10.0
    change: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.minutes <= 0:
            raise ConfigError(f"nnU-Net cannot train for {self.minutes} minutes", fix="use a positive number")
        refuse_axes(self.change)


@dataclass(frozen=True, kw_only=True)
class Minutes:
    """How long a row is expected to take, everything included, before one was measured."""

    pretrain: float = 3.0
    vit: float = 4.0
    nnunet: float = 12.0


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows that belong together.

    Attributes:
        name: Part of the names of its rows; needed where it changes a recipe.
        axes: Their product are the rows.
        pretrain: Changes to the pre-training recipe.
        finetune: Changes to the fine-tuning recipe.
        minutes: Expected for one of its rows of the package's networks, where it differs from the grid's.
        pretrain_minutes: Expected for one of its pre-trainings, likewise.
    """

    name: str = ""
    axes: Axes = field(default_factory=Axes)
    pretrain: tuple[str, ...] = ()
    finetune: tuple[str, ...] = ()
    minutes: float | None = None
    pretrain_minutes: float | None = None

    def __post_init__(self) -> None:
        refuse_axes((*self.pretrain, *self.finetune))
        if (self.pretrain or self.finetune) and not self.name:
            raise ConfigError("a block that changes a recipe has no name", where="blocks", fix="give it a name")
        if not all(part.isalnum() for part in self.name.split("-")) and self.name:
            raise ConfigError(
                f"{self.name!r} cannot be part of a file name", where="blocks", fix="use letters, digits and hyphens"
            )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A sweep.

    Attributes:
        name: Of the file.
        about: One sentence: what it is to show.
        tier: What the data have to be: `small` or `paper` regions (`ct.region.REGIONS`), or the user's `own`.
        pretrain: The pre-training recipe.
        finetune: The fine-tuning recipe.
        nnunet: For the rows of nnU-Net.
        method: The pre-training method whose time `scratch-equal-time` is given.
        drop_empty_cases: Calibrate without the development cases that lack the label.
        resamples: Of patients, for the intervals in the records.
        minutes: Expected times.
        defaults: Of the axes.
        blocks: Their rows, in the order in which they are run.
    """

    name: str = ""
    about: str = ""
    tier: Tier = "own"
    pretrain: Base = field(default_factory=Base)
    finetune: Base = field(default_factory=Base)
    nnunet: NnunetBase = field(default_factory=NnunetBase)
    method: str = "mae"
    drop_empty_cases: bool = False
    resamples: int = 1000
    minutes: Minutes = field(default_factory=Minutes)
    defaults: Defaults = field(default_factory=Defaults)
    blocks: tuple[Block, ...] = ()


def packaged_grids() -> dict[str, str]:
    """Name and text of every grid that comes with the package."""
    folder = files("apatite.study.sweep") / "grids"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8") for entry in found}


def read_grid(named: str, assignments: Iterable[str] = ()) -> Grid:
    """A grid of the package by its name, or a file by its path, with some values changed.

    Raises:
        ConfigError: there is no such grid, a key is unknown (with the nearest known one), or a value is wrong.
    """
    path = Path(named)
    if not path.suffix:
        names = list(packaged_grids())
        if named not in names:
            raise ConfigError(f"unknown grid {named!r}", fix=f"{nearest(named, names)} Or give a .yaml file")
        path = Path(str(files("apatite.study.sweep") / "grids" / f"{named}.yaml"))
    return override(grid_of(read_yaml(path), path.stem), assignments)


def grid_of(values: dict[str, Any], name: str) -> Grid:
    """A grid from plain values.

    Raises:
        ConfigError: as `read_grid`.
    """
    grid = replace(load(Grid, values, name), name=name)
    if not grid.blocks:
        raise ConfigError("has no blocks, and so no rows", where=name, fix="add at least one block of axes")
    return grid


def refuse_axes(assignments: Iterable[str]) -> None:
    """Refuse a change of what an axis sets.

    Raises:
        ConfigError: there is one.
    """
    for assignment in assignments:
        key = assignment.partition("=")[0]
        if key in AXIS_KEYS:
            raise ConfigError(f"{key} is set by an axis", where=assignment, fix="name its values under `axes`")
