"""Projector and predictor of contrastive learning, with batch norms over the samples of all processes.

Source: Chen et al. 2021 (arXiv 2104.02057) and the public code of MoCo v3: three layers of 4096 to 256, a predictor of
two; no biases, a batch norm after each layer, a ReLU between, no scale or shift in the last norm; each view is
normalised by itself.
Differs: its input is the mean of normalised elements of a map, for there is no class token. Batch norms remember
nothing: they use the batch at hand whatever the mode, so that looking at a network does not change it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.errors import ConfigError
from apatite.core.types import Rows

AddUp = Callable[[Tensor], Tensor]
"""Adds up over the processes that share a batch, with its gradient."""
Projections = Float[Tensor, "views samples dim"]

EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """What is contrasted, and how sharply.

    Attributes:
        hidden: Width of the hidden layers.
        dim: Width of what is compared.
        layers: Of the projector; the predictor has two.
        temperature: What cosines are divided by. 0.2 is that of the published commands for transformers; without a word
            the public code takes 1.
    """

    hidden: int = 4096
    dim: int = 256
    layers: int = 3
    temperature: float = 0.2

    def __post_init__(self) -> None:
        if min(self.hidden, self.dim, self.layers) < 1 or self.temperature <= 0:
            raise ConfigError(
                f"hidden {self.hidden}, dim {self.dim}, layers {self.layers}, temperature {self.temperature}",
                where="contrast",
                fix="use at least 1, and a temperature above 0",
            )

    def build(self, width: int, add_up: AddUp | None = None) -> "ContrastHead":
        """The head on a map of that many channels."""
        return ContrastHead(width, self, add_up)


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrasted:
    """What a head makes of all views of a batch; lengths mean nothing.

    Attributes:
        keys: Projections; a teacher's are what is compared with.
        queries: Predictions of the other view's keys; a student's are what is compared.
    """

    keys: Projections
    queries: Projections


class ContrastHead(nn.Module):
    """From the elements of a map to keys and queries.

    Args:
        width: Channels of the map.
        config: Widths and layers.
        add_up: Over the processes that share a batch; `None` for one process.
    """

    def __init__(self, width: int, config: ContrastConfig, add_up: AddUp | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.projector = _perceptron([width, *[config.hidden] * (config.layers - 1), config.dim], add_up)
        self.predictor = _perceptron([config.dim, config.hidden, config.dim], add_up)

    def forward(self, elements: Rows, *, views: int) -> Contrasted:
        """Keys and queries.

        Args:
            elements: Of all views, view by view: all samples of the first, then all of the second.
            views: How many.
        """
        keys = self.projector(self.norm(elements).mean(dim=1).unflatten(0, (views, -1)))
        return Contrasted(keys=keys, queries=self.predictor(keys))


class BatchNorm(nn.Module):
    r"""Each channel with zero mean and unit variance over the samples of one view, those of all processes.

    $$y = (x - \bar x) / \sqrt{\mathrm{var}(x) + 10^{-5}}$$ with the biased variance. In fp32 whatever
    comes in, fp64 stays.

    Args:
        width: Channels.
        is_affine: Whether a scale and a shift are learned.
        add_up: Over the processes that share a batch.
    """

    def __init__(self, width: int, add_up: AddUp | None, *, is_affine: bool) -> None:
        super().__init__()
        self.add_up = add_up
        self.weight = nn.Parameter(torch.ones(width)) if is_affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if is_affine else None

    def forward(self, rows: Projections) -> Projections:
        """The shape does not change."""
        rows = rows if rows.dtype == torch.float64 else rows.float()
        count = self._total(rows.new_tensor(rows.shape[1]))
        centred = rows - self._total(rows.sum(dim=1, keepdim=True)) / count
        variance = self._total(centred.square().sum(dim=1, keepdim=True)) / count
        normal = centred / torch.sqrt(variance + EPSILON)
        return normal if self.weight is None or self.bias is None else normal * self.weight + self.bias

    def _total(self, value: Tensor) -> Tensor:
        return value if self.add_up is None else self.add_up(value)


def _perceptron(widths: list[int], add_up: AddUp | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for here, there in pairwise(widths[:-1]):
        layers += [nn.Linear(here, there, bias=False), BatchNorm(there, add_up, is_affine=True), nn.ReLU()]
    last = nn.Linear(widths[-2], widths[-1], bias=False)
    return nn.Sequential(*layers, last, BatchNorm(widths[-1], add_up, is_affine=False))
