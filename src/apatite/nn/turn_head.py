"""From a map to one of four quarter turns: how far was the crop turned in the axial plane?

Source: Gidaris et al. 2018 (arXiv 1803.07728); one linear layer as in the public code of Tang et al. 2022
(arXiv 2111.14791).
Differs: that code reads the first of its 27 elements alone and turns about another axis than that of the slices; here
it is the mean of all elements, each normalised.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.types import Rows

NUM_TURNS = 4
"""By 0, 90, 180 and 270 degrees."""

Turns = Float[Tensor, "batch 4"]
"""Logits of the four turns."""


class TurnHead(nn.Module):
    """Logits of the four turns, in fp32.

    Args:
        width: Channels of the map.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, NUM_TURNS)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, elements: Rows) -> Turns:
        """Logits, from all elements of each sample's map."""
        with torch.autocast(elements.device.type, enabled=False):
            return self.linear(self.norm(elements.float()).mean(dim=1))
