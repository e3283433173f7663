"""The UNETR decoder: hidden states at quarter depths and the image itself, joined from coarse to fine as in a U-Net.

Four states of an encoder of n blocks, those after blocks n/4, n/2, 3n/4 (rounded up) and the last, lie on strides that
double from one to the next: the deeper, the coarser. The image joins at full resolution.

    patch           last    3n/4    n/2     n/4     image
    16              16      8       4       2       1           as published
    8 and less      8       4       2       1       1           so that all four are used

A state on a finer stride than its tokens is doubled up to it (the first doubling sets the width, each further one is
followed by a residual block), one on its own stride passes a 1×1×1 convolution, and one on a coarser stride is pooled
first: at patches of 4 the last state is halved once, at patches of 2 twice. Patches over 16 have more steps, without a
state of their own in the last ones. Patches of unequal edges: the longest one decides, the short axes double in the
last steps; pooling halves all axes.

Source: Hatamizadeh et al. 2022 (arXiv 2103.10504), figure 2 and section 3.1; blocks and widths as MONAI's `UNETR`, to
whose decoder this one is equal at patches of 16 with `transposed` upsampling.
Differs: smaller patches, as above; the image is the encoder's windowed one; either way of doubling. MONAI takes the
states after blocks 4, 7 and 10 of 12; here it is 3, 6 and 9, as published.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from apatite.core.types import Edges
from apatite.nn.decoders.blocks import ResidualBlock, UpStep, halved
from apatite.nn.decoders.decoder import Decoder, FeatureMap, refuse_narrow
from apatite.nn.decoders.prior import start_rare
from apatite.nn.decoders.upsampling import UpsamplingName, doubling, doubling_plan, finer
from apatite.nn.vit import Encoded, ViTConfig

NUM_SKIPPED = 3
"""States beside the last one."""


@dataclass(frozen=True, kw_only=True)
class UNETRConfig:
    """The UNETR decoder.

    Attributes:
        width: Channels at full resolution; twice as many at every coarser level ("feature size").
    """

    width: int = 16

    def __post_init__(self) -> None:
        refuse_narrow(self.width, "UNETR")


class UNETRDecoder(Decoder):
    """From hidden states and image to logits.

    Args:
        encoder: Shape of the encoder; its patch edges must be powers of two.
        config: Widths.
        labels: Logits per voxel.
        upsampling: How to double; `transposed` is the paper's.

    Raises:
        ConfigError: a patch edge is not a power of two.
    """

    sees_image = True

    def __init__(self, encoder: ViTConfig, config: UNETRConfig, labels: int, upsampling: UpsamplingName) -> None:
        super().__init__(encoder)
        self.taps = quarter_depths(encoder.depth)
        plan = doubling_plan(encoder.patch)
        self.num_halvings = max(NUM_SKIPPED - len(plan), 0)
        self.factors: list[Edges] = [*[(2, 2, 2)] * self.num_halvings, *plan]
        num_steps = len(self.factors)
        widths = [config.width * 2 ** (num_steps - step) for step in range(1, num_steps + 1)]
        self.image_block = ResidualBlock(len(encoder.windows_hu), config.width)
        self.rises = nn.ModuleList(
            rise(encoder.dim, width, self.factors[self.num_halvings : step], upsampling)
            for step, width in enumerate(widths[:NUM_SKIPPED], start=1)
        )
        self.steps = nn.ModuleList()
        incoming = encoder.dim
        for step, (width, factor) in enumerate(zip(widths, self.factors, strict=True), start=1):
            num_skips = (step <= NUM_SKIPPED) + (step == num_steps)
            self.steps.append(
                UpStep(incoming, width, factor, num_skips=num_skips, upsampling=upsampling, block=ResidualBlock)
            )
            incoming = width
        self.head = nn.Conv3d(config.width, labels, 1)
        start_rare(self.head)

    def feature_maps(self, encoded: Encoded) -> Iterator[FeatureMap]:
        """The last state on its stride, then the map after each step."""
        depth, height, width = (edge * 2**self.num_halvings for edge in self.patch)
        stride: Edges = (depth, height, width)
        features = halved(self.map_of(encoded.tokens), self.num_halvings)
        yield FeatureMap(stride=stride, values=features)
        for step, (factor, join) in enumerate(zip(self.factors, self.steps, strict=True), start=1):
            skips = []
            if step <= NUM_SKIPPED:
                state = self.map_of(encoded.states[step - 1])
                skips.append(self.rises[step - 1](halved(state, max(self.num_halvings - step, 0))))
            if step == len(self.steps):
                assert encoded.image is not None, "sees_image asks for it"
                skips.append(self.image_block(encoded.image))
            features, stride = join(features, skips), finer(stride, factor)
            yield FeatureMap(stride=stride, values=features)


def quarter_depths(depth: int) -> tuple[int, ...]:
    """Blocks, counted from 1, at three, two and one quarters of the depth, rounded up.

    >>> quarter_depths(12)
    (9, 6, 3)
    """
    return tuple(-(-depth * quarters // 4) for quarters in (3, 2, 1))


def rise(incoming: int, width: int, factors: list[Edges], upsampling: UpsamplingName) -> nn.Module:
    """A state on its stride: the first doubling sets the width, a residual block follows each further one."""
    if not factors:
        return nn.Conv3d(incoming, width, 1, bias=False)
    parts = nn.Sequential(doubling(upsampling, incoming, width, factors[0]))
    for factor in factors[1:]:
        parts.extend([doubling(upsampling, width, width, factor), ResidualBlock(width, width)])
    return parts
