"""Stochastic depth: while training, a block's branch is left out for whole samples.

Source: Huang et al. 2016 (arXiv 1603.09382), with a rate that grows linearly with depth.
Differs: what is kept is scaled up, so that nothing need be scaled when the model is used.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.share import WHOLE, Share


class DropPath(nn.Module):
    """Drops the branch of whole samples, and scales the rest so that the mean stays; in evaluation it does nothing.

    Draws are made for the samples of all processes, so that sharing a batch does not change what is dropped.

    Args:
        rate: Chance that a sample's branch is dropped.

    Attributes:
        share: Which part of the batch is seen here.
        views: How often the batch's samples come, one view of all of them after another.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.share = WHOLE
        self.views = 1

    def forward(self, branch: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        """The shape does not change."""
        if not self.training or self.rate == 0:
            return branch
        drawn = torch.rand(len(branch) * self.share.of, device=branch.device)
        ours = drawn.view(self.views, self.share.of, -1)[:, self.share.index].flatten()
        kept = (ours >= self.rate).view(-1, *[1] * (branch.ndim - 1))
        return branch * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        """For torch's description of a module."""
        return f"rate={self.rate:g}"


def rising_rates(last: float, depth: int) -> list[float]:
    """The rate of each block: 0 for the first, `last` for the last, equal steps between."""
    return torch.linspace(0, last, depth, device="cpu").tolist()


def share_draws(module: nn.Module, share: Share) -> None:
    """Let every block of a model know which part of a batch it sees: its draws are those of the whole batch."""
    for part in module.modules():
        if isinstance(part, DropPath):
            part.share = share


def draw_for_views(module: nn.Module, views: int) -> None:
    """Let every block know how many views of the same samples come one after another from now on."""
    for part in module.modules():
        if isinstance(part, DropPath):
            part.views = views
