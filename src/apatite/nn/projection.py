"""The head of self-distillation: tokens become points on a sphere, to be compared with prototypes on it.

Source: Caron et al. 2021 (arXiv 2104.14294), section 3.1 and its released head; Zhou et al. 2022 (arXiv 2111.07832) and
    SMIT's released code use the same with 8192 prototypes.
Differs: no layer makes the logits, see `losses.distillation`. The prototypes are divided by their lengths instead of a
    weight norm with its gain fixed at 1: the same function and gradient, without the gain.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.types import Projected
from apatite.nn.linear import Linear

SPREAD = 0.02
"""Of the first weights, a truncated normal."""


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig:
    """Shape of a `ProjectionHead`.

    Attributes:
        prototypes: Directions a point is compared with.
        hidden: Width between the layers.
        dim: Of the sphere's space: the bottleneck.
        layers: Linear layers before it; 1 for a linear projection.
    """

    prototypes: int = 8192
    hidden: int = 2048
    dim: int = 256
    layers: int = 3

    def __post_init__(self) -> None:
        for name, least in (("prototypes", 2), ("hidden", 1), ("dim", 2), ("layers", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: {getattr(self, name)}", where="projection", fix=f"at least {least}")

    def build(self, width: int, *, by_onednn: bool = False) -> "ProjectionHead":
        """A head for tokens of a width, freshly initialised from torch's current random state.

        Args:
            width: Of a token.
            by_onednn: See `nn.linear.Linear`.
        """
        return ProjectionHead(self, width, by_onednn=by_onednn)


class ProjectionHead(nn.Module):
    """A perceptron to the sphere, and the prototypes.

    Args:
        config: Shape.
        width: Of a token.
        by_onednn: See `nn.linear.Linear`.
    """

    def __init__(self, config: ProjectionConfig, width: int, *, by_onednn: bool = False) -> None:
        super().__init__()
        self.config = config
        widths = (width, *[config.hidden] * (config.layers - 1), config.dim)
        made: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            made += [nn.GELU()] if made else []
            layer = Linear(inputs, outputs, by_onednn=by_onednn)
            nn.init.trunc_normal_(layer.weight, std=SPREAD)
            nn.init.zeros_(layer.bias)
            made.append(layer)
        self.layers = nn.Sequential(*made)
        # Torch's own initialisation, as released: only directions matter, but the length sets how fast they turn.
        self.prototypes = nn.Linear(config.dim, config.prototypes, bias=False)

    def forward(self, tokens: Float[Tensor, "rows width"], *, learns_prototypes: bool = True) -> Projected:
        """Points of unit length, in fp32 at least, and the prototypes they are compared with.

        Args:
            tokens: Any number of rows, also none.
            learns_prototypes: Whether a gradient flows into the prototypes; without one an optimiser of torch leaves
                them as they are, weight decay included.
        """
        weight = self.prototypes.weight if learns_prototypes else self.prototypes.weight.detach()
        return Projected(points=_on_the_sphere(self.layers(tokens)), prototypes=_on_the_sphere(weight))


def _on_the_sphere(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """Of unit length; in 16 bits the lengths would be off by some thousandths."""
    return F.normalize(rows if rows.dtype == torch.float64 else rows.float(), dim=-1)
