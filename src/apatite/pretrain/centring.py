"""What keeps a teacher from giving all rows one prototype: an offset of its logits, a running mean or Sinkhorn's.

Source: centring, Caron et al. 2021 (arXiv 2104.14294); Sinkhorn in its place, as DINOv2 (Oquab et al. 2023, arXiv
2304.07193). The running mean is that of all cells, hidden or not, of all views, as in the released code of SMIT.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from apatite.core.share import Share
from apatite.core.types import Projected
from apatite.losses.distillation import centre_offset, mean_logits, sinkhorn_offset
from apatite.losses.logits import PerPrototype
from apatite.losses.overlap import Sum
from apatite.pretrain.teaching import Centring


class Centre(nn.Module):
    """A running mean of the teacher's logits, taken from them.

    What a step saw changes the mean only after the step: its losses are functions of the state before it.

    Args:
        prototypes: Their number.
        momentum: What the mean keeps of itself at a step.
        share: Which part of a batch this process sees.
        add_up: Over the processes that share it.
    """

    centre: Tensor

    def __init__(self, prototypes: int, momentum: float, share: Share, add_up: Sum) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(prototypes))
        self.momentum, self.share, self.add_up = momentum, share, add_up
        self._noted: PerPrototype | None = None

    def offset(self, asked: Projected, temperature: float) -> PerPrototype:
        """Of the logits divided by the temperature."""
        del asked
        return centre_offset(self.centre, temperature)

    def note(self, projected: Projected) -> None:
        """Remember what a step saw: the mean logits of all rows of all processes."""
        self._noted = self.add_up(mean_logits(projected)) / self.share.of

    @torch.no_grad()
    def after(self) -> None:
        """Move by what was noted in the step."""
        if self._noted is not None:
            self.centre.lerp_(self._noted.to(self.centre), 1 - self.momentum)
            self._noted = None


class Sinkhorn(nn.Module):
    """Equal shares of the batch for all prototypes; nothing is remembered. Arguments as `Centre`."""

    def __init__(self, prototypes: int, momentum: float, share: Share, add_up: Sum) -> None:
        super().__init__()
        del prototypes, momentum, share
        self.add_up = add_up

    def offset(self, asked: Projected, temperature: float) -> PerPrototype:
        """By which each prototype gets its share of the rows that the student is asked about."""
        return sinkhorn_offset(asked, temperature, add_up=self.add_up)

    def note(self, projected: Projected) -> None:
        """Nothing is noted."""

    def after(self) -> None:
        """Nothing moves."""


CENTRINGS: Final[dict[Centring, Callable[[int, float, Share, Sum], "Centre | Sinkhorn"]]] = {
    "centre": Centre,
    "sinkhorn": Sinkhorn,
}
