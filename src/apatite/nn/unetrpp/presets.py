"""The shapes of UNETR++ by name, and what a user writes to choose and change one.

Source: `synapse`, `acdc`, `lung` and `brats` are the networks of the public code (Amshaker/unetr_plus_plus, commit
dcba1c6), folder by folder; `small` and `tiny` are ours, for two cores and for tests.
Differs: crop and windows come from the run. What stands here is the crop of the public code, and one window.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

from apatite.core.registry import choose
from apatite.core.types import Edges
from apatite.nn.intensity import ABDOMEN_HU, Window
from apatite.nn.unetrpp.network import UNETRPPConfig, Widths

ONE_WINDOW: Final[tuple[Window, ...]] = (ABDOMEN_HU,)

PRESETS: Final[dict[str, UNETRPPConfig]] = {
    "synapse": UNETRPPConfig(crop=(64, 128, 128), windows_hu=ONE_WINDOW),
    "acdc": UNETRPPConfig(
        crop=(16, 160, 160),
        windows_hu=ONE_WINDOW,
        stem=(1, 4, 4),
        shares_projection=False,
        num_residual=2,
        attention_dropout=0.1,
    ),
    "lung": UNETRPPConfig(
        crop=(32, 192, 192),
        windows_hu=ONE_WINDOW,
        stem=(1, 4, 4),
        shares_projection=False,
        num_residual=2,
        attention_dropout=0.1,
    ),
    "brats": UNETRPPConfig(
        crop=(128, 128, 128),
        windows_hu=ONE_WINDOW,
        stem=(4, 4, 4),
        projection_bias=False,
        fusion="sum",
        attention_dropout=0.1,
    ),
    "small": UNETRPPConfig(
        crop=(64, 64, 64),
        windows_hu=ONE_WINDOW,
        stem=(4, 4, 4),
        widths=(16, 32, 64, 128),
        num_blocks=2,
        base_width=8,
        projections=(32, 32, 32, 16),
        decoder_projection=32,
    ),
    "tiny": UNETRPPConfig(
        crop=(8, 16, 24),
        windows_hu=ONE_WINDOW,
        stem=(1, 1, 1),
        widths=(4, 8, 16, 32),
        num_blocks=1,
        heads=2,
        base_width=4,
        projections=(8, 8, 8, 4),
        decoder_projection=8,
    ),
}


@dataclass(frozen=True, kw_only=True)
class UNETRPPShape:
    """A preset of UNETR++ and what differs from it; `None` keeps the preset's.

    Attributes:
        preset: A key of `PRESETS`.
        stem: Edges in voxels of what becomes one token of the first stage.
        widths: Channels of the four stages.
        num_blocks: Blocks of each stage.
        heads: Heads of every block.
        base_width: Channels of the decoder at full resolution.
        projections: Summaries that a voxel of each stage of the encoder attends to.
        decoder_projection: The same in the decoder.
        attention_dropout: Of attention's scores.
        dropout: Of whole channels at the end of a block.
    """

    preset: str = "small"
    stem: Edges | None = None
    widths: Widths | None = None
    num_blocks: int | None = None
    heads: int | None = None
    base_width: int | None = None
    projections: Widths | None = None
    decoder_projection: int | None = None
    attention_dropout: float | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        choose(PRESETS, self.preset, "UNETR++ preset")

    def config(self, crop: Edges, windows_hu: tuple[Window, ...]) -> UNETRPPConfig:
        """The network's config for a crop and its windows.

        Raises:
            ConfigError: the crop does not fit the stem, or a changed value makes no sense.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "preset"}
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(PRESETS[self.preset], crop=crop, windows_hu=windows_hu, **changes)
