"""How a map is doubled: nearest neighbour and a convolution, or a transposed convolution.

    nearest      each element becomes 2 along every doubled axis, then a 3×3×3 convolution
    transposed   a transposed convolution whose kernel is its stride, 2 along every doubled axis

A transposed convolution gives each of the eight children of an element weights of its own. Nothing makes them agree, so
what is constant before it comes out with the period of its stride: a checkerboard. Nearest neighbour makes them equal,
and the convolution after it treats them alike, at the price of 27 products for each pair of channels and new element
instead of one.

Source: Odena et al. 2016, "Deconvolution and checkerboard artifacts"; the two choices are those that Jin et al. 2025
(arXiv 2507.01744) compare in their Upscale decoder.
"""

from typing import Final, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.types import Edges
from apatite.nn.decoders.convolution import Conv

UpsamplingName = Literal["nearest", "transposed"]


class NearestConv(Conv):
    """Nearest neighbour, then a 3×3×3 convolution.

    Args:
        incoming, width: Channels before and after.
        factor: Along depth, height, width.
        bias: Whether the convolution adds one.
    """

    def __init__(self, incoming: int, width: int, factor: Edges, *, bias: bool) -> None:
        super().__init__(incoming, width, bias=bias)
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:
        """`factor` times as many elements along each axis."""
        return super().forward(F.interpolate(input, scale_factor=tuple(map(float, self.factor)), mode="nearest"))


class TransposedConv(nn.ConvTranspose3d):
    """A transposed convolution whose kernel is its stride; arguments as `NearestConv`."""

    def __init__(self, incoming: int, width: int, factor: Edges, *, bias: bool) -> None:
        super().__init__(incoming, width, factor, factor, bias=bias)


UPSAMPLINGS: Final[dict[str, type[NearestConv] | type[TransposedConv]]] = {
    "nearest": NearestConv,
    "transposed": TransposedConv,
}


def doubling(upsampling: UpsamplingName, incoming: int, width: int, factor: Edges, *, bias: bool = False) -> nn.Module:
    """A fresh layer that doubles some axes; arguments as `NearestConv`.

    Raises:
        ConfigError: the name is unknown.
    """
    return choose(UPSAMPLINGS, upsampling, "upsampling")(incoming, width, factor, bias=bias)


def doubling_plan(patch: Edges) -> list[Edges]:
    """Per stage, the factor along depth, height, width, from tokens to voxels; short axes double in the last stages.

    >>> doubling_plan((2, 4, 4))
    [(1, 2, 2), (2, 2, 2)]

    Raises:
        ConfigError: a patch edge is not a power of two.
    """
    if any(edge & (edge - 1) for edge in patch):
        raise ConfigError(
            f"this decoder doubles, so patch edges {patch} must be powers of two",
            fix="use 2, 4, 8 or 16, or the mae decoder",
        )
    stages = max(edge.bit_length() - 1 for edge in patch)
    return [tuple(2 if stages - stage <= edge.bit_length() - 1 else 1 for edge in patch) for stage in range(stages)]  # type: ignore[misc]


def finer(stride: Edges, factor: Edges) -> Edges:
    """The stride after a doubling."""
    return stride[0] // factor[0], stride[1] // factor[1], stride[2] // factor[2]
