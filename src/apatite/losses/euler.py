r"""Surrogate of the topological loss: the Euler characteristic of the sub-level sets, on the accelerator, no matching.

Voxels are vertices, and a cell has the largest value of its vertices, as in the diagrams of `topology`. With the ramp
$r(x) = \min(\max(x + 1/2, 0), 1)$ in the place of a step, the curve at $t_k = (k + 1/2) / T$, $k = 0 … T - 1$ is

$$\chi(t_k) = \sum_{\text{cells } c} (-1)^{\dim c}\; r\big((t_k - f(c)) / w\big), \qquad
f(c) = \max_{\text{vertices } v \text{ of } c} I(v)$$

which is components − tunnels + cavities where no value lies within w/2 of $t_k$. By default w is 2/T, so that each
value lies in two ramps: were it in one, a cell that is too many would stop where that ramp ends and nothing pulls.

The curve is blind to position, as diagrams are, and to pairs that cancel: a tunnel may hide a component.

Source: the Euler characteristic curve of a filtered cubical complex; as a loss after arXiv 2507.23763, whose formula
    was not at hand.
Differs: the ramp, the thresholds and the normaliser are decided here.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.types import Image, Scalar
from apatite.losses.pooling import pooled

VOXELS_PER_FEATURE: Final = 1000
"""Of an input with fewer features than one in so many voxels, what is missing is not a share of them any more."""

Curve = Float[Tensor, "batch channels thresholds"]


@dataclass(frozen=True, kw_only=True)
class EulerLossConfig:
    """How two volumes are compared by their Euler characteristic.

    Attributes:
        pool: Both are averaged over cubes of so many voxels first.
        thresholds: How many, evenly spaced in [0, 1].
        ramp: How wide a ramp is, in spacings of the thresholds.
    """

    pool: int = 2
    thresholds: int = 32
    ramp: float = 2.0

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise ConfigError(f"cubes of {self.pool} voxels", where="euler.pool", fix="take 1 for the volume as it is")
        if self.thresholds < 1:
            raise ConfigError(f"{self.thresholds} thresholds give no curve", fix="take at least one")
        if not 1 <= self.ramp <= self.thresholds:
            raise ConfigError(
                f"ramps of {self.ramp:g} spacings leave values without a gradient, or are wider than all of the curve",
                fix="take 1 to as many as there are thresholds; 2 is the default",
            )


def euler_loss(made: Image, given: Image, config: EulerLossConfig) -> Scalar:
    r"""How far the curve of what was made is from that of what was given.

    $$L = \frac{\mathrm{mean}_k\,(\chi_{made}(t_k) - \chi_{given}(t_k))^2}
    {\mathrm{mean}_k\,\chi_{given}(t_k)^2 + (N/1000)^2}$$ per channel of a sample, then the mean; N is the number of
    voxels after pooling. It is the share of the input's curve that is missing, about 1 where nothing was made of it, so
    that a weight means the same at any size. The one feature per thousand voxels keeps an input with hardly any (air)
    from counting more than all others. No unit.

    Args:
        made: `batch channels depth height width` in [0, 1]; the gradient goes here. Beyond, values have none.
        given: The same shape and unit.
        config: Pooling, thresholds, ramps.

    Raises:
        ConfigError: cubes of `pool` do not fill the volume (`BAD_POOL`).
    """
    found = euler_curve(pooled(made, config.pool), config.thresholds, config.ramp)
    wanted = euler_curve(pooled(given.detach(), config.pool), config.thresholds, config.ramp)
    least = given[0, 0].numel() / config.pool**3 / VOXELS_PER_FEATURE
    return ((found - wanted).square().mean(dim=2) / (wanted.square().mean(dim=2) + least**2)).mean()


def euler_curve(volume: Image, thresholds: int, ramp: float = 2.0) -> Curve:
    """The smoothed curve of every channel of every sample; edges of 1 voxel are fine.

    Beside the volume it holds eight of its size for the gradient, however many thresholds there are.

    Args:
        volume: `batch channels depth height width`.
        thresholds: How many; the k-th is (k + 1/2) / thresholds.
        ramp: How wide a ramp is, in spacings of the thresholds.
    """
    curve = volume.new_zeros((*volume.shape[:2], thresholds))
    of_extent: dict[tuple[int, ...], Tensor] = {(0, 0, 0): volume}
    for extent in product((0, 1), repeat=3):
        if any(extent):
            # A cell is as high as the higher one of its two opposite faces across its last axis.
            axis = max(number for number in range(3) if extent[number])
            face = of_extent[(*extent[:axis], 0, *extent[axis + 1 :])]
            length = max(face.shape[2 + axis] - 1, 0)
            of_extent[extent] = torch.maximum(face.narrow(2 + axis, 0, length), face.narrow(2 + axis, 1, length))
        counts = _Counts.apply(of_extent[extent].flatten(2), thresholds, ramp)
        curve = curve + (-1) ** sum(extent) * counts  # pyright: ignore[reportOperatorIssue]
    return curve


class _Counts(torch.autograd.Function):
    """How many values lie below each threshold, through the ramp.

    Threshold by threshold, so that memory does not grow with them; backwards each value looks up the sum of the
    gradients of the ramps that it lies in. Nothing is scattered, so an accelerator gives the same bits every time.
    """

    @staticmethod
    def forward(ctx: Any, values: Float[Tensor, "batch channels cells"], thresholds: int, ramp: float) -> Curve:
        ctx.save_for_backward(values)
        ctx.ramp = ramp
        places = values * (thresholds / ramp)
        return torch.stack([((k + 0.5) / ramp + 0.5 - places).clamp(0, 1).sum(dim=2) for k in range(thresholds)], dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Curve) -> tuple[Float[Tensor, "batch channels cells"], None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (values,), (gradient,) = ctx.saved_tensors, gradients
        thresholds = gradient.shape[2]
        # The thresholds within half a ramp are those from `first` to before `last`.
        first = (values * thresholds - ctx.ramp / 2 + 0.5).floor().clamp(0, thresholds).long()
        last = (values * thresholds + ctx.ramp / 2 - 0.5).ceil().clamp(0, thresholds).long()
        up_to = F.pad(gradient.cumsum(dim=2), (1, 0))
        return (up_to.gather(2, first) - up_to.gather(2, last)) * (thresholds / ctx.ramp), None, None
