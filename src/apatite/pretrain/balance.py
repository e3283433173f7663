r"""Terms are scaled so that each pulls at the tap as its weight says, whatever the size of its loss.

$$L = \sum_i w_i\, \frac{g_0}{g_i}\, L_i, \qquad g_i = \lVert \partial L_i / \partial z \rVert_2$$ with z the tokens of
the tap, which all terms share, and the first term as the measure. Norms are measured every few steps and averaged over
the run so far, forgetting.

Source: ours, after the idea of GradNorm (Chen et al. 2018, arXiv 1711.02257), which learns the factors; that SMIT's
weights 1, 0.1, 0.1 are fragile is inferred from what MEDiC (arXiv 2603.29009) saw of the same three losses.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from apatite.core.share import Share
from apatite.core.types import Scalar
from apatite.losses.overlap import Sum

EVERY = 10
"""Steps between measurements: each costs a backward pass of the heads."""
MEMORY = 0.9
SMALLEST = 1e-12


class Balance(nn.Module):
    """The norms of the terms' gradients, and what they make of their weights.

    Args:
        names: Of the terms; the first is the measure of the others.
        share: Which part of a batch this process sees.
        add_up: Over the processes that share it.
    """

    norms: Tensor

    def __init__(self, names: Sequence[str], share: Share, add_up: Sum) -> None:
        super().__init__()
        self.names, self.share, self.add_up = tuple(names), share, add_up
        self.register_buffer("norms", torch.zeros(len(self.names)))
        self._measured: Tensor | None = None
        self._known: set[str] = set()

    def factors(self, losses: Mapping[str, Scalar], root: Tensor, step: int) -> dict[str, Tensor]:
        """By what each loss is to be multiplied, besides its weight; terms that do not count at this step have none.

        Args:
            losses: Not yet weighted, with their graphs.
            root: What they share (`nn.taps.Taps.roots`).
            step: Of the run.
        """
        known = self.norms
        if step % EVERY == 0 or not self._knows(losses):
            # Remembered only after the step: its losses are functions of the state before it.
            known = self._measured = self._measure(losses, root)
        places = {name: self.names.index(name) for name in losses}
        measure = known[0] if known[0] > 0 else known[next(iter(places.values()))]
        return {name: measure / known[place].clamp(min=SMALLEST) for name, place in places.items()}

    def _knows(self, names: Iterable[str]) -> bool:
        """Whether all of these were measured once; a term may begin in the middle of a run."""
        if not self._known >= set(names):
            # Also after a resumed run's norms came back. Looked up rarely: it waits for the device.
            self._known = {name for name, norm in zip(self.names, self.norms.tolist(), strict=True) if norm > 0}
        return self._known >= set(names)

    def _measure(self, losses: Mapping[str, Scalar], root: Tensor) -> Tensor:
        """The remembered norms with what this step shows."""
        squares = torch.zeros_like(self.norms)
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, root, retain_graph=True)
            squares[self.names.index(name)] = gradient.float().square().sum()
        # Each process's losses are means over its own samples.
        found = self.add_up(squares).sqrt() / self.share.of
        seen_before = self.norms > 0
        return torch.where(found > 0, torch.where(seen_before, self.norms.lerp(found, 1 - MEMORY), found), self.norms)

    @torch.no_grad()
    def after(self) -> None:
        """Remember what was measured in the step."""
        if self._measured is not None:
            self.norms.copy_(self._measured)
            self._measured = None
