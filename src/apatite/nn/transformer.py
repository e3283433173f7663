"""A stack of pre-norm transformer blocks.

Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), Eq. 2-3.
"""

from collections.abc import Sequence

from torch import nn

from apatite.core.types import Tokens
from apatite.nn.attention import Attention, AttentionKernel
from apatite.nn.drop_path import DropPath, rising_rates
from apatite.nn.linear import Linear

MLP_RATIO = 4


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each on normalised tokens and added to them."""

    def __init__(self, dim: int, heads: int, kernel: AttentionKernel, drop_path: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, kernel)
        self.mlp_norm = nn.LayerNorm(dim)
        wide = Linear(dim, MLP_RATIO * dim, by_onednn=kernel.by_onednn)
        self.mlp = nn.Sequential(wide, nn.GELU(), Linear(MLP_RATIO * dim, dim, by_onednn=kernel.by_onednn))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens) -> Tokens:
        """The shape does not change."""
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))


class Transformer(nn.Module):
    """Blocks and a final norm.

    Args:
        dim: Width of a token.
        depth: Number of blocks.
        heads: Heads per block.
        kernel: How attention is computed.
        drop_path: Rate of the last block; earlier blocks drop proportionally less.
    """

    def __init__(self, dim: int, depth: int, heads: int, kernel: AttentionKernel, drop_path: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, kernel, rate) for rate in rising_rates(drop_path, depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """All blocks, then the norm."""
        return self.tapped(tokens, ())[0]

    def tapped(self, tokens: Tokens, taps: Sequence[int]) -> tuple[Tokens, tuple[Tokens, ...]]:
        """The same, and the tokens after some of the blocks on their way, before the final norm.

        Args:
            tokens: What goes in.
            taps: Blocks, counted from 1, in any order; what no tap names is not kept.

        Returns:
            What `forward` returns, and one state per tap in the order of `taps`.
        """
        states = {}
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in taps:
                states[number] = tokens
        return self.norm(tokens), tuple(states[tap] for tap in taps)


def initialise(module: nn.Module) -> None:
    """Xavier-uniform linears with zero bias, as the MAE family does; to be given to `nn.Module.apply`.

    Source: He et al. 2022 (arXiv 2111.06377), appendix A.1. Padding of stored heads is zeroed again afterwards.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, Attention):
        # `apply` visits children first, so this undoes what their initialisation put into the padding.
        module._zero_padding()
