"""SFPN U-Net: a pyramid made of the encoder's last map alone, and a U-Net that joins it from coarse to fine.

For patches of p voxels the pyramid has the strides 2p, p, p/2, …, 1:

    2p          maximum over 2×2×2 tokens, then a 1×1×1 convolution
    p           a 1×1×1 convolution
    p/2^k       k doublings of the last map, each level by itself

each followed by norm and leaky rectifier. The U-Net starts at 2p; a step doubles, concatenates the pyramid's level, and
convolves twice. Patches of unequal edges: as many levels as the longest edge asks for, the short axes double in the
last ones; the coarsest level halves all axes.

Source: Li et al. 2022 (arXiv 2203.16527), section 3, simple feature pyramid; the U-Net over it after Jin et al. 2025
(arXiv 2507.01744), "SFPN U-Net", where it is only named.
Differs: from Li 2022, instance norm instead of layer norm and a leaky rectifier instead of GELU, strides down to one
voxel, widths that halve towards it, no 3×3 convolution in the pyramid (the U-Net's blocks follow). Widths are ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from apatite.core.types import Edges
from apatite.nn.decoders.blocks import SLOPE, MapNorm, UpStep, double_block, halved, smooth
from apatite.nn.decoders.decoder import Decoder, FeatureMap, refuse_narrow
from apatite.nn.decoders.prior import start_rare
from apatite.nn.decoders.upsampling import UpsamplingName, doubling, doubling_plan, finer
from apatite.nn.vit import Encoded, ViTConfig


@dataclass(frozen=True, kw_only=True)
class SFPNConfig:
    """The SFPN U-Net decoder.

    Attributes:
        width: Channels at full resolution; twice as many at every coarser level, at most the encoder's width.
    """

    width: int = 16

    def __post_init__(self) -> None:
        refuse_narrow(self.width, "SFPN U-Net")


class SFPNDecoder(Decoder):
    """From the last tokens to logits.

    Args:
        encoder: Shape of the encoder; its patch edges must be powers of two.
        config: Widths.
        labels: Logits per voxel.
        upsampling: How to double.

    Raises:
        ConfigError: a patch edge is not a power of two.
    """

    def __init__(self, encoder: ViTConfig, config: SFPNConfig, labels: int, upsampling: UpsamplingName) -> None:
        super().__init__(encoder)
        plan = doubling_plan(encoder.patch)
        self.factors: list[Edges] = [(2, 2, 2), *plan]
        widths = [min(encoder.dim, config.width * 2**coarser) for coarser in range(len(self.factors), -1, -1)]
        levels = [plan[: max(level - 1, 0)] for level in range(len(widths))]
        self.pyramid = nn.ModuleList(
            pyramid_level(encoder.dim, width, factors, upsampling)
            for width, factors in zip(widths, levels, strict=True)
        )
        self.steps = nn.ModuleList(
            UpStep(coarse, fine, factor, num_skips=1, upsampling=upsampling, block=double_block)
            for coarse, fine, factor in zip(widths, widths[1:], self.factors, strict=False)
        )
        self.head = nn.Conv3d(widths[-1], labels, 1)
        start_rare(self.head)

    def feature_maps(self, encoded: Encoded) -> Iterator[FeatureMap]:
        """The coarsest level of the pyramid, then the map after each step of the U-Net."""
        last = self.map_of(encoded.tokens)
        depth, height, width = self.patch
        stride = (2 * depth, 2 * height, 2 * width)
        features = self.pyramid[0](halved(last))
        yield FeatureMap(stride=stride, values=features)
        for level, (factor, step) in enumerate(zip(self.factors, self.steps, strict=True), start=1):
            features, stride = step(features, [self.pyramid[level](last)]), finer(stride, factor)
            yield FeatureMap(stride=stride, values=features)


def pyramid_level(incoming: int, width: int, factors: list[Edges], upsampling: UpsamplingName) -> nn.Module:
    """Doublings of the last map, each with norm and rectifier; a 1×1×1 convolution where there are none."""
    if not factors:
        return smooth(incoming, width, 1)
    parts = nn.Sequential()
    for factor in factors:
        parts.extend([doubling(upsampling, incoming, width, factor), MapNorm(width), nn.LeakyReLU(SLOPE)])
        incoming = width
    return parts
