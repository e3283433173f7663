"""Multi-head self-attention that never holds the N×N scores, with heads that may be stored wider than they are.

Torch's fused kernels want head widths of 16 or 32; the paper's are 10, 20, 40. A stored head of width 16 whose last 6
rows of q, k, v (and columns of the output) are zero computes the same function: zero channels add nothing to q·k, and
the scale stays 1/sqrt(10). Their gradients are zero too, so they stay zero. Weights go in and out of files unpadded.
On a CPU the kernel of `attention_cpu` takes heads as they are.

Source: Vaswani et al. 2017 (arXiv 1706.03762), Eq. 1.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.types import Tokens
from apatite.nn.attention_cpu import attend
from apatite.nn.linear import Linear

Heads = Float[Tensor, "batch heads tokens width"]


@dataclass(frozen=True, kw_only=True)
class AttentionKernel:
    """How a block is computed; the function is the same (to rounding), the speed is not.

    Attributes:
        head_multiple: Heads are stored at a multiple of this width; 1 stores them as they are.
        in_fp32: Compute scores in fp32 even under bf16 autocast (faster on CPUs without matrix units).
        compiled: On a CPU, attend by our own kernel, always in fp32, instead of torch's.
        by_onednn: Linear layers in fp32 on a CPU go through oneDNN.
    """

    head_multiple: int = 1
    in_fp32: bool = False
    compiled: bool = False
    by_onednn: bool = False


class Attention(nn.Module):
    """Self-attention over tokens.

    Args:
        dim: Width of a token; a multiple of `heads`.
        heads: Number of heads.
        kernel: How it is computed.
    """

    def __init__(self, dim: int, heads: int, kernel: AttentionKernel) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"a width of {dim} cannot be shared by {heads} heads", fix="make it a multiple")
        self.heads, self.head_width, self.kernel = heads, dim // heads, kernel
        self.stored_width = -(-self.head_width // kernel.head_multiple) * kernel.head_multiple
        self.qkv = Linear(dim, 3 * heads * self.stored_width, by_onednn=kernel.by_onednn)
        self.out = Linear(heads * self.stored_width, dim, by_onednn=kernel.by_onednn)
        if self.stored_width != self.head_width:
            self._zero_padding()
            self.register_state_dict_post_hook(_unpad_state)
            self.register_load_state_dict_pre_hook(_pad_state)

    def forward(self, tokens: Tokens) -> Tokens:
        """Mix tokens; the shape does not change."""
        if self.kernel.compiled and tokens.device.type == "cpu":
            qkv = rearrange(self.qkv(tokens), "b n (three h d) -> b n three h d", three=3, h=self.heads)
            return self.out(attend(qkv, self.head_width**-0.5).flatten(2))
        q, k, v = rearrange(self.qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.out(rearrange(self._mix(q, k, v), "b h n d -> b n (h d)"))

    def _mix(self, q: Heads, k: Heads, v: Heads) -> Heads:
        scale = self.head_width**-0.5
        if not self.kernel.in_fp32:
            return F.scaled_dot_product_attention(q, k, v, scale=scale)
        # Autocast would turn the scores back to its own format, whatever is passed in.
        with torch.autocast(q.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), scale=scale)
        return mixed.to(q.dtype)

    @torch.no_grad()
    def _zero_padding(self) -> None:
        """Make the stored padding exactly zero, where it stays."""
        per_head = self.qkv.weight.view(3, self.heads, self.stored_width, -1)
        per_head[:, :, self.head_width :] = 0
        self.qkv.bias.view(3, self.heads, self.stored_width)[:, :, self.head_width :] = 0
        self.out.weight.view(-1, self.heads, self.stored_width)[:, :, self.head_width :] = 0


def _unpad_state(module: nn.Module, state: dict[str, Tensor], prefix: str, _local: Any) -> None:
    """Drop the padding when weights leave the module."""
    assert isinstance(module, Attention)
    heads, width = module.heads, module.head_width
    weight, bias, out = (state[prefix + name] for name in ("qkv.weight", "qkv.bias", "out.weight"))
    state[prefix + "qkv.weight"] = weight.view(3, heads, module.stored_width, -1)[:, :, :width].flatten(0, 2)
    state[prefix + "qkv.bias"] = bias.view(3, heads, module.stored_width)[:, :, :width].flatten()
    state[prefix + "out.weight"] = out.view(-1, heads, module.stored_width)[:, :, :width].flatten(1)


def _pad_state(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Add zero padding when unpadded weights enter; a shape that does not fit is left for torch to refuse."""
    assert isinstance(module, Attention)
    heads, width, extra = module.heads, module.head_width, module.stored_width - module.head_width
    weight, bias, out = (state.get(prefix + name) for name in ("qkv.weight", "qkv.bias", "out.weight"))
    if weight is not None and weight.shape[0] == 3 * heads * width:
        state[prefix + "qkv.weight"] = F.pad(weight.view(3, heads, width, -1), (0, 0, 0, extra)).flatten(0, 2)
    if bias is not None and bias.shape[0] == 3 * heads * width:
        state[prefix + "qkv.bias"] = F.pad(bias.view(3, heads, width), (0, extra)).flatten()
    if out is not None and out.shape[1] == heads * width:
        state[prefix + "out.weight"] = F.pad(out.view(-1, heads, width), (0, extra)).flatten(1)
