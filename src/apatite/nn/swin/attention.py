"""Self-attention among the tokens of a window, with a learned bias for each offset between two of them.

The bias of a head depends on where one token lies from the other, and on nothing else; it is looked up in a table
with one row per offset.

Source: Liu et al. 2021 (arXiv 2103.14030), Eq. 4; the names of the weights are those of MONAI's `WindowAttention`.
"""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from apatite.core.types import Edges
from apatite.nn.attention import AttentionKernel
from apatite.nn.linear import Linear
from apatite.nn.swin.attention_cpu import Bias, Mixed, QueriesKeysValues, attend_in_windows
from apatite.nn.swin.windows import Sides, Windowed, are_apart, relative_places

BIAS_SPREAD = 0.02
"""Standard deviation of a fresh table."""


class WindowAttention(nn.Module):
    """Attention inside each window.

    Args:
        dim: Width of a token; a multiple of `heads`.
        heads: Number of heads.
        window: Edges of a whole window.
        kernel: How linear layers are computed.
        qkv_bias: Whether queries, keys and values have one.
        counts_from_first: `nn.swin.config.Convention`.
        along_ijk: The same.
    """

    undecayed = ("relative_position_bias_table",)

    def __init__(  # noqa: PLR0913 - one row of a table of stages
        self,
        *,
        dim: int,
        heads: int,
        window: Edges,
        kernel: AttentionKernel,
        qkv_bias: bool,
        counts_from_first: bool,
        along_ijk: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.counts_from_first, self.along_ijk = counts_from_first, along_ijk
        offsets = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, heads))
        by_onednn = kernel.by_onednn
        self.qkv = Linear(dim, 3 * dim, by_onednn=by_onednn) if qkv_bias else nn.Linear(dim, 3 * dim, bias=False)
        self.proj = Linear(dim, dim, by_onednn=by_onednn)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=BIAS_SPREAD)

    def forward(self, tokens: Windowed, window: Edges, sides: Sides | None) -> Windowed:
        """Mix the tokens of each window; the shape does not change.

        Args:
            tokens: The windows, sample by sample.
            window: Their edges, none longer than a whole window's.
            sides: Tokens of a window see those of the same number; `None` where all see each other.
        """
        qkv = rearrange(self.qkv(tokens), "b n (three h d) -> b n three h d", three=3, h=self.heads)
        attend = attend_in_windows if tokens.device.type == "cpu" else _attend_at_once
        return self.proj(attend(qkv, self._bias(window, tokens.device), sides).flatten(2))

    def _bias(self, window: Edges, device: torch.device) -> Bias:
        places = relative_places(
            self.window, window, device, counts_from_first=self.counts_from_first, along_ijk=self.along_ijk
        )
        # Indexing would add its gradient up in an order that threads choose.
        return rearrange(F.embedding(places, self.relative_position_bias_table), "n m h -> h n m")


def _attend_at_once(qkv: QueriesKeysValues, bias: Bias, sides: Sides | None) -> Mixed:
    """The same by torch's kernel; the windows of a sample stand beside its heads, so that one table serves all."""
    added = bias[None] if sides is None else bias.masked_fill(are_apart(sides)[:, None], -torch.inf)
    kinds = len(added)
    q, k, v = rearrange(qkv, "(b w) n three h d -> three b (w h) n d", w=kinds)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=added.flatten(0, 1)[None].to(q.dtype))
    return rearrange(mixed, "b (w h) n d -> (b w) n h d", w=kinds)
