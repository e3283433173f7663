"""ViTiac: a plain 3D vision transformer whose encoder may look at visible patches only.

Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); He et al. 2022 (arXiv 2111.06377) for visible patches only; sizes
from Jin et al. 2025 (arXiv 2507.01744).
Differs: volumes; no class token; fixed positions; patches are embedded by a reshape and a linear layer (never by a
strided convolution) or by convolutions inside each patch, and only the visible ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from apatite.core.errors import ConfigError
from apatite.core.types import Edges, Image, Rows, TokenChoice, Tokens
from apatite.nn.attention import AttentionKernel
from apatite.nn.intensity import Window, Windows
from apatite.nn.patches import patchify, take_tokens, token_edges
from apatite.nn.positions import sincos_positions
from apatite.nn.stem import STEMS, StemName
from apatite.nn.transformer import Transformer, initialise

HEAD_CT_WINDOWS_HU: tuple[Window, ...] = ((-1024.0, 3071.0), (0.0, 300.0))


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Shape of a `ViT`.

    Attributes:
        crop: Edges of the input in voxels: depth, height, width.
        patch: Edges of a patch in voxels; they may differ.
        windows_hu: One input channel per window.
        dim, depth, heads: Of the transformer.
        drop_path: Stochastic depth while fine-tuning.
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

    def build(self, kernel: AttentionKernel | None = None) -> "ViT":
        """The encoder, freshly initialised from torch's current random state."""
        return ViT(self, kernel or AttentionKernel())


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What a segmentation decoder is given.

    Attributes:
        tokens: Normalised, one row per patch.
        states: Tokens after the blocks that were asked for, in that order, before the final norm.
        image: The windowed image; `None` where it was not asked for.
    """

    tokens: Tokens
    states: tuple[Tokens, ...] = ()
    image: Image | None = None


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

    def patches_of(self, image_hu: Tensor) -> Rows:
        """Windowed patches of `batch 1 depth height width` Hounsfield units."""
        return patchify(self.windows(image_hu), self.config.patch)

    def embed_visible(self, patches: Rows, visible: TokenChoice | None) -> Rows:
        """Embedded visible patches with their positions."""
        positions = self.positions[None]
        if visible is None:
            return self.embed(patches) + positions
        return self.embed(take_tokens(patches, visible)) + take_tokens(positions.expand(len(patches), -1, -1), visible)
