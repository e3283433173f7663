"""The shape of a Swin encoder, and the three conventions that published ones differ in.

    stage   grid of a 96³ crop   width        after its merging
    1       48³ (2³ voxels)      dim          24³, 2 dim
    2       24³                  2 dim        12³, 4 dim
    3       12³                  4 dim        6³,  8 dim    cells: what a method hides, 8 patches along each axis
    4       6³                   8 dim        3³, 16 dim    deep

Source: the released code of SMIT (The-Veeraraghavan-Lab/SMIT, commit 5d81399, `models/Trans.py`) and MONAI's
`SwinTransformer` (1.6.1); Liu et al. 2021 (arXiv 2103.14030) for the idea.
Differs: edges may differ; an odd grid is padded at its end by the merging, as MONAI does, where SMIT's code refuses it.
"""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final, Literal

from apatite.core.errors import ConfigError
from apatite.core.types import Edges
from apatite.nn.attention import AttentionKernel
from apatite.nn.intensity import Window
from apatite.nn.patches import token_edges

if TYPE_CHECKING:
    from apatite.nn.swin.network import Swin

CELL_PATCHES: Final = 8
"""Patches along each edge of what becomes one token after stage 3."""

PerStage = tuple[int, int, int, int]
Corner = tuple[int, int, int]
ConventionName = Literal["smit", "monai", "monai-1.4", "monai-ijk", "monai-1.4-ijk"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What published Swin encoders do differently, and their weights depend on.

    Attributes:
        neighbours: Offsets along depth, height, width of the eight tokens that become one, in the order in which a
            merging puts their channels.
        skips_at_ends: The first four maps are the stages' tokens after their blocks, each through a norm that learns,
            and the last map is as it is. Otherwise they are what goes into the stages, and all five pass a norm
            without weights.
        counts_from_first: In a window that a small grid makes smaller, the relative positions are looked up as those of
            as many first tokens of a whole window. That is wrong, and weights were trained with it.
        along_ijk: Which tokens are the first was settled along i, j, k (width, height, depth), as arrays ran where the
            weights were trained. The neighbours are along our axes either way.
    """

    neighbours: tuple[Corner, ...]
    skips_at_ends: bool
    counts_from_first: bool
    along_ijk: bool = False


_SMIT_ORDER = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1))
_MONAI_ORDER = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))
_MONAI_TWICE = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))


def _turned(published: tuple[Corner, ...]) -> tuple[Corner, ...]:
    """Along depth, height, width, of what is along i, j, k."""
    return tuple((k, j, i) for i, j, k in published)


CONVENTIONS: Final[dict[ConventionName, Convention]] = {
    "smit": Convention(neighbours=_SMIT_ORDER, skips_at_ends=True, counts_from_first=False),
    "monai": Convention(neighbours=_MONAI_ORDER, skips_at_ends=False, counts_from_first=True),
    # Until 1.4 two neighbours came twice and two never (Project-MONAI/MONAI, issue 8284, corrected by 8285); weights
    # that were published before, as those of its own pre-training, were trained so.
    "monai-1.4": Convention(neighbours=_MONAI_TWICE, skips_at_ends=False, counts_from_first=True),
    # For weights that MONAI trained: its arrays run along i, j, k, and neither the first tokens nor the neighbours that
    # come twice are the same in our axes.
    "monai-ijk": Convention(
        neighbours=_turned(_MONAI_ORDER), skips_at_ends=False, counts_from_first=True, along_ijk=True
    ),
    "monai-1.4-ijk": Convention(
        neighbours=_turned(_MONAI_TWICE), skips_at_ends=False, counts_from_first=True, along_ijk=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Shape of a `Swin`.

    Attributes:
        crop: Edges of the input in voxels: depth, height, width; multiples of 8 patches.
        patch: Edges of a patch in voxels.
        windows_hu: One input channel per window.
        dim: Width of the first stage; each merging doubles it.
        depths, heads: Blocks and heads of the four stages.
        window: Edges of an attention window in tokens; every second block shifts it by half.
        mlp_ratio: Width inside a block's perceptron over the width of the stage.
        qkv_bias: Whether queries, keys and values have a bias.
        drop_path: Stochastic depth of the last block; earlier blocks drop proportionally less.
        normalises_embedding: Whether embedded patches pass a norm.
        convention: Whose weights fit: a key of `CONVENTIONS`.
    """

    crop: Edges = (96, 96, 96)
    patch: Edges = (2, 2, 2)
    windows_hu: tuple[Window, ...]
    dim: int = 48
    depths: PerStage = (2, 2, 4, 2)
    heads: PerStage = (4, 4, 4, 4)
    window: Edges = (4, 4, 4)
    mlp_ratio: int = 4
    qkv_bias: bool = False
    drop_path: float = 0.0
    normalises_embedding: bool = True
    convention: ConventionName = "smit"

    def __post_init__(self) -> None:
        _refuse_sizes(self)
        self.grid_of(self.crop)

    @property
    def published(self) -> Convention:
        """What the weights depend on."""
        return CONVENTIONS[self.convention]

    @property
    def cell(self) -> Edges:
        """Edges in voxels of what becomes one token after stage 3."""
        return _times(self.patch, CELL_PATCHES)

    @property
    def tokens(self) -> Edges:
        """Cells of the crop along depth, height, width."""
        return self.grid_of(self.crop)

    @property
    def num_tokens(self) -> int:
        """All cells of the crop."""
        return prod(self.tokens)

    @property
    def tap_dim(self) -> int:
        """Width of a cell's token after stage 3 and its merging, and after the blocks of stage 4."""
        return 8 * self.dim

    @property
    def deep_cell(self) -> Edges:
        """Edges in voxels of one element of the last map."""
        return _times(self.cell, 2)

    @property
    def deep_dim(self) -> int:
        """Channels of the last map."""
        return 16 * self.dim

    @property
    def embed_dim(self) -> int:
        """Length of the token that stands in for a hidden patch."""
        return self.dim

    @property
    def depth(self) -> int:
        """Blocks of all stages."""
        return sum(self.depths)

    @property
    def stage_dims(self) -> PerStage:
        """Widths of the stages."""
        return self.dim, 2 * self.dim, 4 * self.dim, 8 * self.dim

    @property
    def map_dims(self) -> tuple[int, int, int, int, int]:
        """Channels of the five maps, the finest first."""
        return *self.stage_dims, self.deep_dim

    def grid_of(self, edges: Edges) -> Edges:
        """Cells of an image of these edges along depth, height, width.

        Raises:
            ConfigError: it is no whole number of cells.
        """
        if any(edge < size or edge % size for edge, size in zip(edges, self.cell, strict=True)):
            near = tuple(max(round(edge / size), 1) * size for edge, size in zip(edges, self.cell, strict=True))
            raise ConfigError(
                f"a Swin with patches of {self.patch} takes whole cells of {self.cell} voxels, and {edges} is none",
                fix=f"use multiples of {self.cell}, for example {near}",
            )
        return token_edges(edges, self.cell)

    def deep_grid_of(self, edges: Edges) -> Edges:
        """Elements of the last map of an image of these edges; an odd number of cells is rounded up."""
        depth, height, width = self.grid_of(edges)
        return -(-depth // 2), -(-height // 2), -(-width // 2)

    def build(self, kernel: AttentionKernel | None = None) -> "Swin":
        """The encoder, freshly initialised from torch's current random state."""
        from apatite.nn.swin.network import Swin

        return Swin(self, kernel or AttentionKernel())


def _times(edges: Edges, factor: int) -> Edges:
    return edges[0] * factor, edges[1] * factor, edges[2] * factor


def _refuse_sizes(config: SwinConfig) -> None:
    """Senseless counts, widths or rates."""
    counts = (*config.patch, *config.depths, *config.heads, *config.window, config.dim, config.mlp_ratio)
    if min(counts) < 1 or not config.windows_hu:
        raise ConfigError("an edge, a width or a count of the Swin is below 1", fix="use positive numbers")
    if any(dim % heads for dim, heads in zip(config.stage_dims, config.heads, strict=True)):
        raise ConfigError(
            f"widths {config.stage_dims} cannot be shared by {config.heads} heads", fix="change dim or heads"
        )
    if not 0 <= config.drop_path < 1:
        raise ConfigError(f"drop_path {config.drop_path}", fix="use a rate in [0, 1)")
