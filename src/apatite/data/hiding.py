"""Which cells are hidden: a function of the seed, the step, the sample and the view, and of nothing else.

A cell is the unit that is hidden: a patch of a ViT, 8 patches along each axis of a Swin. Two laws:

`uniform` hides single cells, an exact number of them, chosen uniformly.
Source: MAE (He et al. 2022, arXiv 2111.06377), 0.9 here; SMIT's released code, 0.7 of 6x6x6 cells, that is 152 of
216, drawn anew for each view and sample; SimMIM (Xie et al. 2022, arXiv 2111.09886), 0.6.
Differs: SimMIM hides squares of 1/6 of the image's edge in two dimensions, here they are cubes.

`blocks` hides cuboids of cells: `data.hidden_blocks`. With `ratio=0.5, lowest=0.1, share=0.5` it is the law of iBOT
(Zhou et al. 2022, arXiv 2111.07832), which DINOv2 keeps, and 3DINO with ratios of 0.2 to 0.75.
Differs: DINOv2 hides cells in exactly half of the views of a batch and spreads their ratios evenly; here each view is
drawn by itself, so that processes that share a batch agree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.types import Edges, TokenChoice
from apatite.data.hidden_blocks import hide_blocks


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """Which cells of each view are hidden.

    Attributes:
        is_hidden: One row per view of a sample, cells in the order of `nn.patches.patchify`.
    """

    is_hidden: Bool[Tensor, "batch cells"]

    @cached_property
    def has_equal_counts(self) -> bool:
        """Whether every view hides as many cells."""
        counts = self.is_hidden.sum(dim=1)
        return bool((counts == counts[:1]).all())

    @cached_property
    def visible(self) -> TokenChoice:
        """The visible cells of each view, ascending."""
        return self._order[:, : self._order.shape[1] - self._count]

    @cached_property
    def hidden(self) -> TokenChoice:
        """The hidden cells of each view, ascending."""
        return self._order[:, self._order.shape[1] - self._count :]

    @cached_property
    def _order(self) -> TokenChoice:
        # Sorting False before True keeps the places of each ascending.
        return self.is_hidden.to(torch.uint8).argsort(dim=1, stable=True)

    @cached_property
    def _count(self) -> int:
        assert self.has_equal_counts, "views hide different numbers of cells, which is no rectangle of places"
        return int(self.is_hidden[0].sum()) if len(self.is_hidden) else 0

    def to(self, device: str | torch.device) -> "Hidden":
        """The same on a device."""
        moved = Hidden(is_hidden=self.is_hidden.to(device))
        known: dict[str, object] = {"has_equal_counts": self.has_equal_counts}
        if self.has_equal_counts:
            known |= {"visible": self.visible.to(device), "hidden": self.hidden.to(device)}
        # Found here, on the host; to count there would wait for the device.
        vars(moved).update(known)
        return moved


@dataclass(frozen=True, kw_only=True)
class HidingLaw:
    """How a method hides cells.

    Attributes:
        kind: `uniform` hides single cells (SMIT 0.7, SimMIM 0.6); `blocks` hides cuboids of cells (iBOT).
        ratio: Share of the cells that is hidden, rounded up; `None` hides nothing, ever (DINO).
        lowest: Where given, each view draws its ratio uniformly between this and `ratio` (iBOT: 0.1 to 0.5).
        share: Chance that a view is hidden at all; 0.5 in iBOT, else 1.
    """

    kind: Literal["uniform", "blocks"] = "uniform"
    ratio: float | None = 0.9
    lowest: float | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"a share of {self.share} of the views", where="hiding.share", fix="above 0, at most 1")
        if self.ratio is None:
            if self.lowest is not None or self.share != 1:
                raise ConfigError(
                    "nothing is hidden, but a range or a share is given", where="hiding.ratio", fix="give a ratio"
                )
            return
        if not 0 < self.ratio < 1:
            raise ConfigError(
                f"the hidden ratio must lie between 0 and 1, got {self.ratio}", where="hiding.ratio", fix=RATIOS
            )
        if self.lowest is not None and not 0 < self.lowest < self.ratio:
            raise ConfigError(
                f"ratios from {self.lowest} to {self.ratio}", where="hiding.lowest", fix="above 0, below the ratio"
            )

    @property
    def summary(self) -> str:
        """In a few words."""
        if self.ratio is None:
            return "nothing hidden"
        ratio = f"{self.ratio:.0%}" if self.lowest is None else f"{self.lowest:.0%} to {self.ratio:.0%}"
        share = "" if self.share == 1 else f" in {self.share:.0%} of the views"
        return f"{ratio} hidden{' in blocks' if self.kind == 'blocks' else ''}{share}"

    def refuse(self, cells: Edges) -> None:
        """Refuse a grid of cells of which this law would leave nothing visible, or nothing hidden.

        Raises:
            ConfigError: that is so.
        """
        if self.ratio is not None:
            num_visible(prod(cells), self.ratio)

    def hide(self, seed: int, step: int, sample_ids: Sequence[int], cells: Edges, *, views: int = 1) -> Hidden:
        """Draw the hidden cells of a batch.

        Args:
            seed: Of the run.
            step: Of the run.
            sample_ids: Each sample's place in the step's batch.
            cells: Along depth, height, width.
            views: Of each sample; each view has its own cells.

        Returns:
            On the host, view by view: all samples of view 0, then those of view 1, and so on.
        """
        rows = [self._view(_source(seed, step, sample, view), cells) for view in range(views) for sample in sample_ids]
        return Hidden(is_hidden=torch.from_numpy(np.stack(rows)))

    def _view(self, source: np.random.Generator, cells: Edges) -> Bool[np.ndarray, "cells"]:
        num_cells = prod(cells)
        if self.ratio is None:
            return np.zeros(num_cells, bool)
        # All is drawn in one order, whatever the law: the cells of one law do not depend on the settings of another.
        order = source.permutation(num_cells)
        place, chance = source.random(size=2)
        ratio = self.ratio if self.lowest is None else self.lowest + (self.ratio - self.lowest) * place
        count = num_cells - num_visible(num_cells, ratio) if chance < self.share else 0
        return LAWS[self.kind](source, order, cells, count)


RATIOS: Final = "use for example 0.9 (MAE), 0.7 (SMIT) or 0.6 (SimMIM)"

Law = Callable[[np.random.Generator, Int64[np.ndarray, "cells"], Edges, int], Bool[np.ndarray, "cells"]]


def _hide_last(
    source: np.random.Generator, order: Int64[np.ndarray, "cells"], cells: Edges, count: int
) -> Bool[np.ndarray, "cells"]:
    """The last cells of a random order."""
    del source
    is_hidden = np.zeros(prod(cells), bool)
    is_hidden[order[len(order) - count :]] = True
    return is_hidden


LAWS: Final[dict[str, Law]] = {"uniform": _hide_last, "blocks": hide_blocks}


def num_visible(num_tokens: int, hidden_ratio: float) -> int:
    """How many tokens stay visible: at least one, and at least one is hidden.

    Rounded down, as in the reference code of He et al. 2022 (arXiv 2111.06377): int(N * (1 - ratio)).

    Raises:
        ConfigError: the ratio is not strictly between 0 and 1, or nothing would be hidden or visible.
    """
    if not 0 < hidden_ratio < 1:
        raise ConfigError(f"the hidden ratio must lie between 0 and 1, got {hidden_ratio}", fix=RATIOS)
    visible = int(num_tokens * (1 - hidden_ratio) + 1e-9)
    if not 1 <= visible < num_tokens:
        raise ConfigError(
            f"{num_tokens} tokens at a hidden ratio of {hidden_ratio} leave {visible} visible",
            fix="use smaller patches or another ratio",
        )
    return visible


def _source(seed: int, step: int, sample: int, view: int) -> np.random.Generator:
    # The first view draws what a run of one view draws.
    return generator(seed, "hiding", step, sample, view) if view else generator(seed, "hiding", step, sample)
