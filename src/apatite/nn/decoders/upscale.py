"""The Upscale decoder: doubled until each token is its patch again.

Each stage doubles the axes that are still coarser than a voxel, halves the width, and ends in an instance norm and a
leaky rectifier. How it doubles is a choice: nearest neighbour and a 3×3×3 convolution, or a transposed convolution in
its place, which never looks beyond its own patch.

Source: after Jin et al. 2025 (arXiv 2507.01744), "Upscale"; widths are not published, so they are ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from apatite.nn.decoders.blocks import SLOPE, MapNorm
from apatite.nn.decoders.decoder import Decoder, FeatureMap
from apatite.nn.decoders.prior import start_rare
from apatite.nn.decoders.upsampling import UpsamplingName, doubling, doubling_plan, finer
from apatite.nn.vit import Encoded, ViTConfig

NARROWEST = 16


@dataclass(frozen=True, kw_only=True)
class UpscaleConfig:
    """The Upscale decoder.

    Attributes:
        first_dim: Width of the first stage; 0 means half the encoder's.
    """

    first_dim: int = 0


class UpscaleDecoder(Decoder):
    """From tokens to logits by repeated doubling.

    Args:
        encoder: Shape of the encoder whose tokens come in; its patch edges must be powers of two.
        config: Widths.
        labels: Logits per voxel.
        upsampling: How to double.

    Raises:
        ConfigError: a patch edge is not a power of two.
    """

    def __init__(
        self, encoder: ViTConfig, config: UpscaleConfig, labels: int, upsampling: UpsamplingName = "nearest"
    ) -> None:
        super().__init__(encoder)
        self.factors = doubling_plan(encoder.patch)
        width = config.first_dim or max(NARROWEST, encoder.dim // 2)
        self.stages = nn.ModuleList()
        incoming = encoder.dim
        for factor in self.factors:
            double = doubling(upsampling, incoming, width, factor, bias=True)
            self.stages.append(nn.Sequential(double, MapNorm(width), nn.LeakyReLU(SLOPE)))
            incoming, width = width, max(NARROWEST, width // 2)
        self.head = nn.Conv3d(incoming, labels, 1)
        start_rare(self.head)

    def feature_maps(self, encoded: Encoded) -> Iterator[FeatureMap]:
        """The tokens, then the map after each stage."""
        features, stride = self.map_of(encoded.tokens), self.patch
        yield FeatureMap(stride=stride, values=features)
        for factor, stage in zip(self.factors, self.stages, strict=True):
            features, stride = stage(features), finer(stride, factor)
            yield FeatureMap(stride=stride, values=features)
