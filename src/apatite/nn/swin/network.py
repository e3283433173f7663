"""The Swin encoder: four stages of attention in shifted windows, with a token in place of what is hidden.

Every token passes all blocks, the hidden ones too: what a method hides is replaced where patches have been embedded,
by one learned token, and no voxel of it gets further.

Source: the released code of SMIT (The-Veeraraghavan-Lab/SMIT, commit 5d81399, `models/Trans.py`), where the token
takes the place of the embedded and normalised patch; MONAI's `SwinTransformer` (1.6.1) with its convention.
Differs: from MONAI in nothing that it computes; from SMIT's released code in two things: windows are put back where
they were cut (docs/explanation/self-distillation.md), and along an axis where a grid is no longer than a window (stage
4 of crops of at most 64 voxels) the window is as long as the grid and not shifted, where that code pads to a whole
window and shifts. Linear layers start as torch's do, as in both: the released code's own initialiser is never called.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from apatite.core.types import Edges, Image, Tokens
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.decoder import Maps
from apatite.nn.drop_path import rising_rates
from apatite.nn.intensity import Windows
from apatite.nn.swin.block import Block, Merged
from apatite.nn.swin.config import CELL_PATCHES, SwinConfig
from apatite.nn.swin.windows import Grid
from apatite.nn.taps import Tap, Taps
from apatite.nn.vit import Encoded

IsHiddenCell = Bool[Tensor, "batch cells"]
HiddenToken = Float[Tensor, " embed_dim"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """What one stage made of its tokens.

    Attributes:
        start: What went in.
        end: After its blocks.
        merged: After its merging.
    """

    start: Grid
    end: Grid
    merged: Merged


class Embedding(nn.Module):
    """Patches to tokens.

    Args:
        config: Of the encoder.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.project = nn.Conv3d(len(config.windows_hu), config.dim, config.patch, config.patch)
        self.norm = nn.LayerNorm(config.dim) if config.normalises_embedding else nn.Identity()

    def forward(self, image: Image) -> Float[Tensor, "batch _ _ _ _"]:
        """`batch depth height width dim`, one token per patch."""
        return self.norm(self.project(image).movedim(1, -1).contiguous())


class Swin(nn.Module):
    """The encoder. It takes Hounsfield units, or images that are windowed already.

    Args:
        config: Its shape.
        kernel: How linear layers are computed.
    """

    def __init__(self, config: SwinConfig, kernel: AttentionKernel) -> None:
        super().__init__()
        self.config = config
        self.windows = Windows(config.windows_hu)
        self.embed = Embedding(config)
        self.blocks = nn.ModuleList(_blocks(config, kernel))
        self.norms = nn.ModuleList(_output_norms(config))

    def maps(
        self, image: Image, is_hidden: IsHiddenCell | None = None, hidden_token: HiddenToken | None = None
    ) -> tuple[Maps, ...]:
        """Five maps of a windowed image, not normalised, the finest first; each is half the last, the first a patch.

        Args:
            image: `batch windows depth height width`, -1 to 1; edges are multiples of a cell's, others than the crop's
                too.
            is_hidden: Cells that must not be looked at, in the order of `patchify`; none when `None`.
            hidden_token: Stands for every patch of a hidden cell.

        Raises:
            ConfigError: the edges are no whole number of cells.
        """
        return tuple(grid.movedim(-1, 1) for grid in self._grids(image, is_hidden, hidden_token))

    def taps(
        self, image: Image, is_hidden: IsHiddenCell | None = None, hidden_token: HiddenToken | None = None
    ) -> Taps:
        """What the terms of self-distillation see; arguments and errors as `maps`."""
        last = deque(self._stages(image, is_hidden, hidden_token), maxlen=1).pop()
        roots: dict[Tap, Tensor] = {"merged3": last.start, "stage4": last.end}
        return Taps(merged3=_rows(last.start), stage4=_rows(last.end), deep=_rows(last.merged), roots=roots)

    def encode(self, image_hu: Tensor, taps: Sequence[int] = (), *, keeps_image: bool = False) -> Encoded:
        """Look at all of `batch 1 depth height width` Hounsfield units.

        Args:
            image_hu: The crop.
            taps: None: a Swin's maps are what its stages made.
            keeps_image: Whether the windowed image is wanted; memory goes only to what is.

        Returns:
            The five maps as a decoder takes them, each through its norm, and the last one's elements as tokens.
        """
        assert not taps, "a Swin gives the tokens of no single block"
        image = self.windows(image_hu)
        grids = [norm(grid) for norm, grid in zip(self.norms, self._grids(image, None, None), strict=True)]
        return Encoded(
            tokens=_rows(grids[-1]),
            image=image if keeps_image else None,
            maps=tuple(grid.movedim(-1, 1) for grid in grids),
        )

    def _grids(self, image: Image, is_hidden: IsHiddenCell | None, hidden_token: HiddenToken | None) -> list[Merged]:
        """What a decoder sees of each stage, and the last merging; channels last."""
        at_ends = self.config.published.skips_at_ends
        stages = list(self._stages(image, is_hidden, hidden_token))
        return [stage.end if at_ends else stage.start for stage in stages] + [stages[-1].merged]

    def _stages(
        self, image: Image, is_hidden: IsHiddenCell | None, hidden_token: HiddenToken | None
    ) -> Iterator[Stage]:
        """The stages in their order."""
        start = tokens = self._embedded(image, is_hidden, hidden_token)
        for block in self.blocks:
            assert isinstance(block, Block)
            tokens = block(tokens)
            if block.merge is not None:
                merged = block.merge(tokens)
                yield Stage(start=start, end=tokens, merged=merged)
                start = tokens = merged

    def _embedded(self, image: Image, is_hidden: IsHiddenCell | None, hidden_token: HiddenToken | None) -> Merged:
        """Tokens of the patches, those of hidden cells replaced."""
        cells = self.config.grid_of((image.shape[2], image.shape[3], image.shape[4]))
        tokens = self.embed(image)
        if is_hidden is None:
            return tokens
        assert hidden_token is not None, "something stands for what is hidden"
        return torch.where(_per_patch(is_hidden, cells), hidden_token.to(tokens.dtype), tokens)


def _blocks(config: SwinConfig, kernel: AttentionKernel) -> Iterator[Block]:
    """All blocks of all stages; the last of a stage holds the merging after it."""
    rates = iter(rising_rates(config.drop_path, config.depth))
    for stage, depth in enumerate(config.depths):
        for place in range(depth):
            yield Block(
                config,
                stage=stage,
                shifted=place % 2 == 1,
                drop_path=next(rates),
                merges=place == depth - 1,
                kernel=kernel,
            )


def _output_norms(config: SwinConfig) -> Iterator[nn.Module]:
    """What each map passes on its way to a decoder, `nn.swin.config.Convention`."""
    if config.published.skips_at_ends:
        yield from (nn.LayerNorm(dim) for dim in config.stage_dims)
        yield nn.Identity()
    else:
        yield from (nn.LayerNorm(dim, elementwise_affine=False) for dim in config.map_dims)


def _per_patch(is_hidden: IsHiddenCell, cells: Edges) -> Bool[Tensor, "batch depth height width 1"]:
    """What is true of a cell is true of all its patches."""
    places = is_hidden.reshape(len(is_hidden), *cells)
    for axis in (1, 2, 3):
        places = places.repeat_interleave(CELL_PATCHES, axis)
    return places[..., None]


def _rows(grid: Merged) -> Tokens:
    """One row per element, in the order of `patchify`."""
    return grid.flatten(1, 3)
