"""A linear layer that may be computed by oneDNN instead of the linear-algebra library torch was built with.

In fp32 on a CPU torch calls MKL, which on some processors uses half of what they can do. oneDNN computes the same
products, forward and backward; which of the two is faster is measured, see `engine.precision`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MANY_ROWS = 256
"""With fewer rows turning a small product costs more than the better shape gains."""


def has_onednn() -> bool:
    """Whether this torch can compute linear layers by oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`nn.Linear`, with the same weights.

    Args:
        inputs, outputs: Widths.
        by_onednn: Use oneDNN where it is there and the numbers are fp32 and on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, *, by_onednn: bool = False) -> None:
        super().__init__(inputs, outputs)
        self.by_onednn = by_onednn and has_onednn()

    def forward(self, input: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        """Rows times weights, plus biases."""
        # oneDNN refuses to compute nothing: a step may ask about no rows.
        is_ours = self.by_onednn and input.device.type == "cpu" and input.dtype == torch.float32 and input.numel() > 0
        # Under autocast torch itself turns to oneDNN, in bf16.
        if not is_ours or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return _Affine.apply(input, self.weight, self.bias)  # type: ignore[no-any-return]


class _Affine(torch.autograd.Function):
    """rows weight^T + bias, and its gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # type: ignore[override]
        rows, weight = ctx.saved_tensors
        to_rows = _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        flat, flat_rows = gradient.flatten(0, -2), rows.flatten(0, -2)
        if len(weight) > weight.shape[1] and len(flat) >= MANY_ROWS:
            # The longer side first: twice as fast when a layer widens.
            to_weight = _product(flat_rows.t(), flat.t()).t().contiguous()
        else:
            to_weight = _product(flat.t(), flat_rows.t())
        return to_rows, to_weight, flat.sum(0)


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """A b^T + bias."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
