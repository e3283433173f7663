"""Attention in windows on a CPU, a few windows at a time, so that no more scores exist than fit a cache.

All scores of a stage would be hundreds of numbers for each token, written and read again several times over. Here they
are made for some windows, used, and made again for the gradient, as Dao et al. do on a GPU.

Source: Dao et al. 2022 (arXiv 2205.14135), for making scores again and for the row's sum in their gradient.
Differs: whole windows are the tiles.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from apatite.nn.swin.windows import Sides, are_apart

QueriesKeysValues = Float[Tensor, "windows inside 3 heads width"]
Mixed = Float[Tensor, "windows inside heads width"]
Bias = Float[Tensor, "heads inside inside"]
SCORES_BYTES = 2**19
"""Of the scores of some windows; with their gradient they fill a second-level cache of 1 MiB."""


def attend_in_windows(queries_keys_values: QueriesKeysValues, bias: Bias, sides: Sides | None) -> Mixed:
    """softmax(q k^T / sqrt(width) + bias) v inside each window, for every head.

    Args:
        queries_keys_values: As one linear layer makes them; on the CPU. Under autocast they are turned to fp32.
        bias: Added to the scores.
        sides: Tokens of a window see those of the same number; `None` where all see each other.
    """
    return _Attend.apply(queries_keys_values, bias, sides)  # type: ignore[no-any-return]


class _Attend(torch.autograd.Function):
    """Both ways, window by window."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, sides: Tensor | None) -> Tensor:
        windows, inside, _, heads, width = qkv.shape
        mixed = qkv.new_empty(windows, inside, heads, width)
        for some, added in _chunks(qkv, bias, sides):
            q, k, v = qkv[some].permute(2, 0, 3, 1, 4)
            mixed[some] = F.scaled_dot_product_attention(q, k, v, attn_mask=added).transpose(1, 2)
        ctx.save_for_backward(qkv, bias, sides, mixed)
        return mixed

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        qkv, bias, sides, mixed = ctx.saved_tensors
        scale = qkv.shape[-1] ** -0.5
        to_qkv, to_bias = torch.empty_like(qkv), torch.zeros_like(bias)
        dots = (gradient * mixed).sum(-1).transpose(1, 2)[..., None]
        for some, added in _chunks(qkv, bias, sides):
            q, k, v = qkv[some].permute(2, 0, 3, 1, 4)
            to_q, to_k, to_v = to_qkv[some].permute(2, 0, 3, 1, 4)
            q, incoming = q * scale, gradient[some].transpose(1, 2)
            weights = (q @ k.mT).add_(added).softmax(-1)
            to_v[:] = weights.mT @ incoming
            to_scores = (incoming @ v.mT).sub_(dots[some]).mul_(weights)
            to_bias += to_scores.sum(0)
            to_q[:] = (to_scores @ k).mul_(scale)
            to_k[:] = to_scores.mT @ q
        return to_qkv, to_bias, None


def _chunks(qkv: Tensor, bias: Tensor, sides: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Some windows of one sample after another, and what is added to their scores."""
    windows, inside, _, heads, _ = qkv.shape
    period = windows if sides is None else len(sides)
    size = max(1, SCORES_BYTES // (heads * inside**2 * qkv.element_size()))
    for sample in range(0, windows, period):
        for begin in range(0, period, size):
            end = min(begin + size, period)
            some = slice(sample + begin, sample + end)
            yield some, _biases(bias, None if sides is None else sides[begin:end])


def _biases(bias: Bias, sides: Sides | None) -> Float[Tensor, "kinds heads inside inside"]:
    """What is added to the scores of each window, or one for all where they are alike."""
    if sides is None or bool((sides == sides[:, :1]).all()):
        return bias[None]
    return bias.masked_fill(are_apart(sides)[:, None], -torch.inf)
