"""ViTiac: a plain 3D vision transformer whose encoder may look at visible patches only.

Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); He et al. 2022 (arXiv 2111.06377) for visible patches only; sizes
from Jin et al. 2025 (arXiv 2507.01744).
Differs: volumes; no class token; fixed positions; patches are embedded by a reshape and a linear layer (never by a
strided convolution) or by convolutions inside each patch, and only the visible ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.errors import ConfigError
from apatite.core.types import Edges, Image, IsHidden, Rows, TokenChoice, Tokens
from apatite.nn.attention import AttentionKernel
from apatite.nn.intensity import Window, Windows
from apatite.nn.patches import patchify, take_tokens, token_edges
from apatite.nn.positions import sincos_positions
from apatite.nn.stem import STEMS, StemName
from apatite.nn.taps import Tap, Taps
from apatite.nn.transformer import Transformer, initialise

MIDDLE = 0.75
"""Share of the blocks after which the tap `merged3` reads."""
HEAD_CT_WINDOWS_HU: tuple[Window, ...] = ((-1024.0, 3071.0), (0.0, 300.0))


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Shape of a `ViT`.

    Attributes:
        crop: Edges of the input in voxels: depth, height, width.
        patch: Edges of a patch in voxels; they may differ.
        windows_hu: One input channel per window.
        dim, depth, heads: Of the transformer.
        drop_path: Stochastic depth of the last block; earlier blocks drop proportionally less.
        stem: How a patch becomes a token: `linear`, or `conv` for convolutions inside each patch.
    """

    crop: Edges = (32, 96, 96)
    patch: Edges = (8, 8, 8)
    windows_hu: tuple[Window, ...] = HEAD_CT_WINDOWS_HU
    dim: int = 240
    depth: int = 12
    heads: int = 12
    drop_path: float = 0.0
    stem: StemName = "linear"

    def __post_init__(self) -> None:
        token_edges(self.crop, self.patch)
        if self.dim % 6 or self.dim % self.heads:
            raise ConfigError(
                f"a width of {self.dim} must be a multiple of 6 and of the {self.heads} heads",
                fix="change dim or heads",
            )

    @property
    def tokens(self) -> Edges:
        """Tokens along depth, height, width."""
        return token_edges(self.crop, self.patch)

    @property
    def num_tokens(self) -> int:
        """All tokens of a crop."""
        depth, height, width = self.tokens
        return depth * height * width

    @property
    def patch_voxels(self) -> int:
        """Voxels in one patch."""
        return self.patch[0] * self.patch[1] * self.patch[2]

    @property
    def cell(self) -> Edges:
        """Edges in voxels of what is hidden or seen as a whole: a patch."""
        return self.patch

    @property
    def deep_cell(self) -> Edges:
        """Edges in voxels of what one of the last tokens stands for."""
        return self.patch

    @property
    def tap_dim(self) -> int:
        """Width of the tokens at every tap."""
        return self.dim

    @property
    def deep_dim(self) -> int:
        """Width of the last tokens."""
        return self.dim

    @property
    def embed_dim(self) -> int:
        """Length of the vector that stands for what is hidden."""
        return self.dim

    def grid_of(self, edges: Edges) -> Edges:
        """Tokens along depth, height, width of an image of other edges than the crop."""
        return token_edges(edges, self.patch)

    def deep_grid_of(self, edges: Edges) -> Edges:
        """The same of the last tokens."""
        return self.grid_of(edges)

    def build(self, kernel: AttentionKernel | None = None) -> "ViT":
        """The encoder, freshly initialised from torch's current random state."""
        return ViT(self, kernel or AttentionKernel())


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What a segmentation decoder is given.

    Attributes:
        tokens: Normalised, one row per patch; of a Swin, one per element of its coarsest map.
        states: Tokens after the blocks that were asked for, in that order, before the final norm.
        image: The windowed image; `None` where it was not asked for.
        maps: Of a Swin, `batch channels depth height width` after its embedding and after each stage, the finest first.
    """

    tokens: Tokens
    states: tuple[Tokens, ...] = ()
    image: Image | None = None
    maps: tuple[Float[Tensor, "batch _ _ _ _"], ...] = ()


class ViT(nn.Module):
    """The encoder. It takes Hounsfield units."""

    positions: Tensor

    def __init__(self, config: ViTConfig, kernel: AttentionKernel) -> None:
        super().__init__()
        self.config = config
        self.windows = Windows(config.windows_hu)
        self.embed = STEMS[config.stem](config.patch, len(config.windows_hu), config.dim)
        self.register_buffer("positions", sincos_positions(config.tokens, config.dim), persistent=False)
        self.transformer = Transformer(config.dim, config.depth, config.heads, kernel, config.drop_path)
        self.apply(initialise)

    def forward(self, patches: Rows, visible: TokenChoice | None = None) -> Rows:
        """Encode patches.

        Args:
            patches: All patches of each sample, from `patches_of`.
            visible: Which of them may be looked at; all when `None`.

        Returns:
            One normalised row per visible token.
        """
        return self.transformer(self.embed_visible(patches, visible))

    def encode(self, image_hu: Tensor, taps: Sequence[int] = (), *, keeps_image: bool = False) -> Encoded:
        """Look at all of `batch 1 depth height width` Hounsfield units.

        Args:
            image_hu: The crop.
            taps: Blocks, counted from 1, whose tokens are wanted as well.
            keeps_image: Whether the windowed image is wanted; memory goes only to what is.
        """
        image = self.windows(image_hu)
        tokens, states = self.transformer.tapped(self.embed_visible(patchify(image, self.config.patch), None), taps)
        return Encoded(tokens=tokens, states=states, image=image if keeps_image else None)

    def taps(
        self,
        image: Image,
        is_hidden: IsHidden | None = None,
        hidden_token: Float[Tensor, "dim"] | None = None,
    ) -> Taps:
        """Look at all of a windowed image, one vector in the place of what is hidden, as SimMIM and iBOT do.

        Args:
            image: `batch windows depth height width`, -1 to 1; its edges may differ from those of the crop.
            is_hidden: Patches that must not be looked at; none when `None`.
            hidden_token: Stands for the content of a hidden patch; its position is added as to any other.
        """
        tokens = self.embed(patchify(image, self.config.patch))
        if is_hidden is not None:
            assert hidden_token is not None, "something stands for what is hidden"
            tokens = torch.where(is_hidden[..., None], hidden_token.to(tokens.dtype), tokens)
        depth = self.config.depth
        middle = max(1, round(MIDDLE * depth))
        deep, (merged3, stage4) = self.transformer.tapped(tokens + self._positions_of(image), (middle, depth))
        roots: dict[Tap, Tensor] = {"merged3": merged3, "stage4": stage4}
        return Taps(merged3=merged3, stage4=stage4, deep=deep, roots=roots)

    def _positions_of(self, image: Image) -> Float[Tensor, "tokens dim"]:
        """Of an image of any edges; those of the crop are at hand."""
        edges = image.shape[2], image.shape[3], image.shape[4]
        if edges == self.config.crop:
            return self.positions
        return sincos_positions(self.config.grid_of(edges), self.config.dim).to(self.positions)

    def patches_of(self, image_hu: Tensor) -> Rows:
        """Windowed patches of `batch 1 depth height width` Hounsfield units."""
        return patchify(self.windows(image_hu), self.config.patch)

    def embed_visible(self, patches: Rows, visible: TokenChoice | None) -> Rows:
        """Embedded visible patches with their positions."""
        positions = self.positions[None]
        if visible is None:
            return self.embed(patches) + positions
        return self.embed(take_tokens(patches, visible)) + take_tokens(positions.expand(len(patches), -1, -1), visible)
