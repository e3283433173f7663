"""A 3×3×3 convolution whose gradient can be trusted in bf16 on a CPU.

oneDNN 3.12, which is in torch 2.13, reads memory that nobody wrote when it computes the bf16 gradient of such a
convolution's weights on a map of exactly two slices: mostly the result is right, now and then it is not a number. With
the zeros put round the two slices beforehand the same sum is computed by another way, and that one is sound.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNSOUND_DEPTH = 2


class Conv(nn.Conv3d):
    """A 3×3×3 convolution that keeps the edges.

    Args:
        incoming, width: Channels before and after.
        bias: Whether it adds one.
    """

    def __init__(self, incoming: int, width: int, *, bias: bool = False) -> None:
        super().__init__(incoming, width, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """`batch channels depth height width`; only the channels change."""
        is_in_bf16 = torch.is_autocast_enabled("cpu") or input.dtype == torch.bfloat16
        if input.device.type == "cpu" and is_in_bf16 and input.shape[2] == UNSOUND_DEPTH:
            return F.conv3d(F.pad(input, (0, 0, 0, 0, 1, 1)), self.weight, self.bias, padding=(0, 1, 1))
        return super().forward(input)
