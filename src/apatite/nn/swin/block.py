"""One block of a Swin, and the merging that halves a grid.

Source: Liu et al. 2021 (arXiv 2103.14030), section 3.1; in three dimensions MONAI's `SwinTransformer` (1.6.1) and the
released code of SMIT (The-Veeraraghavan-Lab/SMIT, commit 5d81399), whose merging follows every stage, the last too.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.types import Edges
from apatite.nn.attention import AttentionKernel
from apatite.nn.drop_path import DropPath
from apatite.nn.linear import Linear
from apatite.nn.swin.attention import WindowAttention
from apatite.nn.swin.config import Corner, SwinConfig
from apatite.nn.swin.windows import Grid, plan_windows, sides_of

Merged = Float[Tensor, "batch _ _ _ _"]
"""A grid half as long along each axis and twice as wide."""


class Block(nn.Module):
    """Attention in windows, then a two-layer perceptron, each on normalised tokens and added to them.

    Args:
        config: Of the encoder.
        stage: Of the four, from 0.
        shifted: Whether its windows are.
        drop_path: Its rate.
        merges: Whether it is its stage's last, and holds the merging after it.
        kernel: How linear layers are computed.

    Attributes:
        merge: What follows the stage; `None` in all blocks but its last.
    """

    merge: "Merging | None"

    def __init__(
        self,
        config: SwinConfig,
        *,
        stage: int,
        shifted: bool,
        drop_path: float,
        merges: bool,
        kernel: AttentionKernel,
    ) -> None:
        super().__init__()
        dim, convention = config.stage_dims[stage], config.published
        self.window: Edges = config.window
        self.shifted = shifted
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = WindowAttention(
            dim=dim,
            heads=config.heads[stage],
            window=config.window,
            kernel=kernel,
            qkv_bias=config.qkv_bias,
            counts_from_first=convention.counts_from_first,
            along_ijk=convention.along_ijk,
        )
        self.mlp_norm = nn.LayerNorm(dim)
        wide = Linear(dim, config.mlp_ratio * dim, by_onednn=kernel.by_onednn)
        narrow = Linear(config.mlp_ratio * dim, dim, by_onednn=kernel.by_onednn)
        self.mlp = nn.Sequential(wide, nn.GELU(), narrow)
        self.drop_path = DropPath(drop_path)
        self.merge = Merging(dim, convention.neighbours) if merges else None

    def forward(self, tokens: Grid) -> Grid:
        """The shape does not change."""
        tokens = tokens + self.drop_path(self._attend(self.attention_norm(tokens)))
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))

    def _attend(self, tokens: Grid) -> Grid:
        _, depth, height, width, _ = tokens.shape
        plan = plan_windows((depth, height, width), self.window, shifted=self.shifted)
        mixed = self.attention(plan.cut(tokens), plan.window, sides_of(plan, tokens.device))
        return plan.join(mixed)


class Merging(nn.Module):
    """Eight neighbours become one token: their channels side by side, normalised, then a linear layer.

    Args:
        dim: Width of a token; that of the merged one is twice as much.
        neighbours: `nn.swin.config.Convention`.
    """

    def __init__(self, dim: int, neighbours: tuple[Corner, ...]) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.norm = nn.LayerNorm(len(neighbours) * dim)
        self.reduction = nn.Linear(len(neighbours) * dim, 2 * dim, bias=False)

    def forward(self, tokens: Grid) -> Merged:
        """An odd grid is padded with zeros at its end."""
        _, depth, height, width, _ = tokens.shape
        if depth % 2 or height % 2 or width % 2:
            tokens = F.pad(tokens, (0, 0, 0, width % 2, 0, height % 2, 0, depth % 2))
        beside = torch.cat([tokens[:, z::2, y::2, x::2] for z, y, x in self.neighbours], -1)
        return self.reduction(self.norm(beside))
