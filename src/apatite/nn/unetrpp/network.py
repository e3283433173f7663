"""UNETR++: a U-Net of paired-attention blocks, four stages down and three up, made for one size of crop.

    stage     grid of a 64×128×128 crop    width                  decoder
    image     64×128×128                   base_width   <- add <- transposed convolution, kernel and stride the stem
    1         32×32×32                     32           <- add <- transposed convolution, kernel and stride 2
    2         16×16×16                     64           <- add <- transposed convolution, kernel and stride 2
    3         8×8×8                        128          <- add <- transposed convolution, kernel and stride 2
    4         4×4×4                        256

What is added is the encoder's map of that stage, and at full resolution a residual block of the image. Positions and
projections have one row per token of a stage, so weights fit the crop they were made for and no other.

Source: Shaker et al. 2024 (arXiv 2212.04497) and the public code (Amshaker/unetr_plus_plus, commit dcba1c6), to whose
four networks this one is equal with `scrambled`; their settings stand in `presets`.
Differs: the order of tokens (`attention`); a width that is no multiple of the channels before it is normalised in as
many groups as divide both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.errors import ConfigError, ModelError
from apatite.core.types import Edges, Image
from apatite.nn.decoders.decoder import Maps
from apatite.nn.decoders.upsampling import TransposedConv
from apatite.nn.intensity import Window, Windows
from apatite.nn.unetrpp.attention import Fusion, PairedAttentionConfig
from apatite.nn.unetrpp.block import Block, ResidualBlock

NUM_STAGES = 4
HALVING: Edges = (2, 2, 2)
NUM_DEEP = 3
"""Maps of the decoder that can have a head of their own."""

Widths = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class UNETRPPConfig:
    """All that decides the weights of a `UNETRPP`, but for its heads.

    Attributes:
        crop: Edges of the input in voxels: depth, height, width; each a multiple of 8 times the stem's.
        windows_hu: One input channel per window.
        stem: Edges in voxels of what becomes one token of the first stage.
        widths: Channels of the four stages, multiples of the heads.
        num_blocks: Blocks of each stage, in the encoder and in the decoder.
        heads: Heads of every block.
        base_width: Channels of the decoder at full resolution.
        projections: Summaries that a voxel of each stage of the encoder attends to.
        decoder_projection: The same in the decoder.
        shares_projection: Whether keys and values are summarised by one layer or by one each.
        projection_bias: Whether these layers add one.
        fusion: How the two kinds of attention become one: `concat` or `sum`.
        num_residual: Residual blocks after each attention, 1 or 2.
        attention_dropout: Of attention's scores.
        dropout: Of whole channels at the end of a block.
        scrambled: The public code's order of tokens, for weights that were trained in it.
    """

    crop: Edges
    windows_hu: tuple[Window, ...]
    stem: Edges = (2, 4, 4)
    widths: Widths = (32, 64, 128, 256)
    num_blocks: int = 3
    heads: int = 4
    base_width: int = 16
    projections: Widths = (64, 64, 64, 32)
    decoder_projection: int = 64
    shares_projection: bool = True
    projection_bias: bool = True
    fusion: Fusion = "concat"
    num_residual: Literal[1, 2] = 1
    attention_dropout: float = 0.15
    dropout: float = 0.1
    scrambled: bool = False

    def __post_init__(self) -> None:
        _refuse_sizes(self)
        _refuse_crop(self.crop, self.stem)

    @property
    def stages(self) -> tuple[Edges, ...]:
        """The grid of each stage along depth, height, width; the finest first."""
        finest = _divided(self.crop, self.stem)
        return tuple(_divided(finest, (2**stage,) * 3) for stage in range(NUM_STAGES))

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens of each stage."""
        return tuple(map(prod, self.stages))

    def attention(self, stage: int, projection: int) -> PairedAttentionConfig:
        """That of a block at a stage, counted from 0."""
        return PairedAttentionConfig(
            tokens=self.num_tokens[stage],
            dim=self.widths[stage],
            heads=self.heads,
            projection=projection,
            shares_projection=self.shares_projection,
            projection_bias=self.projection_bias,
            fusion=self.fusion,
            dropout=self.attention_dropout,
            scrambled=self.scrambled,
        )

    def build(self, outputs: int, *, deep: bool = False) -> "UNETRPP":
        """The network, freshly initialised from torch's current random state.

        Args:
            outputs: Channels of what it gives: logits per voxel, or the image again.
            deep: Whether the two next coarser maps of the decoder have a head as well.
        """
        return UNETRPP(self, outputs, deep=deep)


class UNETRPPEncoder(nn.Module):
    """The way down: one map per stage."""

    def __init__(self, config: UNETRPPConfig) -> None:
        super().__init__()
        self.crop = config.crop
        incoming = (len(config.windows_hu), *config.widths[:-1])
        factors = (config.stem, *[HALVING] * (NUM_STAGES - 1))
        self.downs = nn.ModuleList(map(_down, incoming, config.widths, factors))
        self.stages = nn.ModuleList(_blocks(config, n, config.projections[n]) for n in range(NUM_STAGES))
        # The public code does so with its encoder and leaves its decoder to torch's defaults.
        self.apply(_initialise)

    def forward(self, image: Image) -> tuple[Maps, ...]:
        """The map of each stage, the finest first; what it raises stands at `UNETRPP.stages`."""
        edges = tuple(image.shape[2:])
        if edges != self.crop:
            raise ModelError(
                f"the weights are for crops of {self.crop} voxels, this one has {edges}",
                fix="use the crop that the network was made for",
                code="MODEL_SHAPE",
            )
        maps, features = [], image
        for down, blocks in zip(self.downs, self.stages, strict=True):
            features = blocks(down(features))
            maps.append(features)
        return tuple(maps)


class UNETRPPDecoder(nn.Module):
    """The way up: from the image and one map per stage, of whatever encoder, to full resolution."""

    def __init__(self, config: UNETRPPConfig) -> None:
        super().__init__()
        widths, base = config.widths, config.base_width
        coarse_to_fine = range(NUM_STAGES - 2, -1, -1)
        self.image_block = ResidualBlock(len(config.windows_hu), base, nn.InstanceNorm3d)
        self.ups = nn.ModuleList(TransposedConv(widths[n + 1], widths[n], HALVING, bias=False) for n in coarse_to_fine)
        self.ups.append(TransposedConv(widths[0], base, config.stem, bias=False))
        self.stages = nn.ModuleList(_blocks(config, n, config.decoder_projection) for n in coarse_to_fine)
        self.stages.append(ResidualBlock(base, base, nn.InstanceNorm3d))

    def forward(self, image: Image, stages: Sequence[Maps]) -> tuple[Maps, ...]:
        """The maps at full resolution, on the first stage's grid and on the second's.

        Args:
            image: The windowed crop.
            stages: One map per stage, the finest first.
        """
        *skipped, features = stages
        skips = (*reversed(skipped), self.image_block(image))
        maps = []
        for up, blocks, skip in zip(self.ups, self.stages, skips, strict=True):
            features = blocks(up(features) + skip)
            maps.append(features)
        return tuple(reversed(maps[-NUM_DEEP:]))


class UNETRPP(nn.Module):
    """The network. It takes Hounsfield units."""

    def __init__(self, config: UNETRPPConfig, outputs: int, *, deep: bool) -> None:
        super().__init__()
        self.config = config
        self.windows = Windows(config.windows_hu)
        self.encoder = UNETRPPEncoder(config)
        self.decoder = UNETRPPDecoder(config)
        self.heads = heads_of(config, outputs, deep=deep)

    def stages(self, image: Image) -> tuple[Maps, ...]:
        """The encoder's map of each stage, the finest first.

        Args:
            image: The windowed crop, one channel per window.

        Raises:
            ModelError: its edges are not those of the crop that the weights are for.
        """
        return self.encoder(image)

    def decode(self, image: Image, stages: Sequence[Maps]) -> tuple[Maps, ...]:
        """The decoder's maps at full resolution, on the first stage's grid and on the second's.

        Args:
            image: The windowed crop.
            stages: One map per stage, as `stages` gives them.
        """
        return self.decoder(image, stages)

    def outputs(self, image: Image, stages: Sequence[Maps]) -> tuple[Maps, ...]:
        """What each head says of its map of `decode`; the finest first, and alone without deep supervision."""
        return tuple(head(features) for head, features in zip(self.heads, self.decode(image, stages), strict=False))

    def forward(
        self, image_hu: Float[Tensor, "batch 1 depth height width"]
    ) -> Float[Tensor, "batch outputs depth height width"]:
        """The first head's outputs, one per voxel."""
        image = self.windows(image_hu)
        return self.heads[0](self.decode(image, self.stages(image))[0])


def heads_of(config: UNETRPPConfig, outputs: int, *, deep: bool) -> nn.ModuleList:
    """A 1×1×1 convolution for the finest map of the decoder, and if `deep` for the two next coarser ones as well."""
    widths = (config.base_width, *config.widths)[: NUM_DEEP if deep else 1]
    return nn.ModuleList(nn.Conv3d(width, outputs, 1) for width in widths)


def _blocks(config: UNETRPPConfig, stage: int, projection: int) -> nn.Sequential:
    """The blocks of a stage, counted from 0."""
    attention = config.attention(stage, projection)
    made = (
        Block(config.stages[stage], attention, num_residual=config.num_residual, dropout=config.dropout)
        for _ in range(config.num_blocks)
    )
    return nn.Sequential(*made)


def _down(incoming: int, width: int, factor: Edges) -> nn.Sequential:
    """A convolution whose kernel is its stride, and a norm over groups of channels."""
    return nn.Sequential(
        nn.Conv3d(incoming, width, factor, factor, bias=False), nn.GroupNorm(gcd(incoming, width), width)
    )


def _initialise(module: nn.Module) -> None:
    """Small normal weights and no bias for linear layers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _divided(edges: Edges, by: Edges) -> Edges:
    """Whole quotients, axis by axis."""
    return edges[0] // by[0], edges[1] // by[1], edges[2] // by[2]


def _refuse_sizes(config: UNETRPPConfig) -> None:
    """No network has these widths, counts or rates."""
    counts = (config.num_blocks, config.heads, config.base_width, config.decoder_projection, len(config.windows_hu))
    if min(*counts, *config.widths, *config.projections, *config.stem) < 1:
        raise ConfigError("an edge, a width or a count of UNETR++ is below 1", fix="use positive numbers")
    if any(width % config.heads or width % 2 for width in config.widths):
        raise ConfigError(
            f"widths {config.widths} must be even and multiples of the {config.heads} heads",
            fix="change widths or heads",
        )
    if not (0 <= config.attention_dropout < 1 and 0 <= config.dropout < 1):
        raise ConfigError(
            f"attention_dropout {config.attention_dropout}, dropout {config.dropout}", fix="use rates in [0, 1)"
        )


def _refuse_crop(crop: Edges, stem: Edges) -> None:
    """A grid that is not whole, or one whose last norms would see a single voxel."""
    steps = [edge * 2 ** (NUM_STAGES - 1) for edge in stem]
    if any(edge < step or edge % step for edge, step in zip(crop, steps, strict=True)):
        near = tuple(max(round(edge / step), 1) * step for edge, step in zip(crop, steps, strict=True))
        raise ConfigError(
            f"UNETR++ with a stem of {stem} halves no crop of {crop} {NUM_STAGES - 1} times without a rest",
            fix=f"use multiples of {tuple(steps)}, for example {near}, or a smaller stem",
        )
    if tuple(crop) == tuple(steps):
        raise ConfigError(
            f"UNETR++ with a stem of {stem} makes one voxel of a crop of {crop}, and its norms need two",
            fix=f"use a crop of {(*crop[:2], 2 * crop[2])} or more, or a smaller stem",
        )
