"""What UNETR++ is made of: a residual block of convolutions, and the block that puts paired attention before it.

Source: Shaker et al. 2024 (arXiv 2212.04497), by its public code (Amshaker/unetr_plus_plus, commit dcba1c6),
`TransformerBlock` and `UnetResBlock`.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.types import Edges
from apatite.nn.decoders.convolution import Conv
from apatite.nn.decoders.decoder import Maps
from apatite.nn.unetrpp.attention import PairedAttention, PairedAttentionConfig

SLOPE = 0.01
FIRST_SHARE = 1e-6
"""How much of the attention a fresh block lets through."""


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions with norms, and what came in added before the last rectifier.

    Args:
        incoming, width: Channels before and after; where they differ, what came in passes a 1×1×1 convolution.
        norm: From channels to a norm.
    """

    def __init__(self, incoming: int, width: int, norm: type[nn.BatchNorm3d] | type[nn.InstanceNorm3d]) -> None:
        super().__init__()
        self.first, self.first_norm = Conv(incoming, width), norm(width)
        self.second, self.second_norm = Conv(width, width), norm(width)
        self.across = (
            nn.Identity()
            if incoming == width
            else nn.Sequential(nn.Conv3d(incoming, width, 1, bias=False), norm(width))
        )

    def forward(self, features: Maps) -> Maps:
        """The edges do not change."""
        made = F.leaky_relu(self.first_norm(self.first(features)), SLOPE)
        return F.leaky_relu(self.second_norm(self.second(made)) + self.across(features), SLOPE)


class Block(nn.Module):
    """Learned positions, paired attention, then residual blocks; each of the last two added to what it was given.

    Args:
        grid: Edges of the map that it is made for.
        attention: Of as many tokens as the grid has.
        num_residual: Residual blocks, one after the other.
        dropout: Of whole channels, before the last 1×1×1 convolution.
    """

    undecayed = ("positions", "gamma")

    def __init__(self, grid: Edges, attention: PairedAttentionConfig, *, num_residual: int, dropout: float) -> None:
        super().__init__()
        self.grid = grid
        dim = attention.dim
        self.positions = nn.Parameter(torch.zeros(1, attention.tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.attention = PairedAttention(attention)
        self.gamma = nn.Parameter(torch.full((dim,), FIRST_SHARE))
        self.residual = nn.Sequential(*(ResidualBlock(dim, dim, nn.BatchNorm3d) for _ in range(num_residual)))
        self.mix = nn.Sequential(nn.Dropout3d(dropout), nn.Conv3d(dim, dim, 1))

    def forward(self, features: Tensor) -> Tensor:
        """`batch channels depth height width`; the shape does not change."""
        depth, height, width = self.grid
        tokens = rearrange(features, "b c z y x -> b (z y x) c", z=depth, y=height, x=width) + self.positions
        tokens = tokens + self.gamma * self.attention(self.norm(tokens))
        attended = rearrange(tokens, "b (z y x) c -> b c z y x", z=depth, y=height, x=width)
        return attended + self.mix(self.residual(attended))
