"""The Upscale decoder: nearest neighbour and a convolution, doubled until each token is its patch again.

Each stage doubles the axes that are still coarser than a voxel, halves the width, and smooths with a 3×3×3
convolution, instance norm and a leaky rectifier. Nearest neighbour followed by a convolution leaves no checkerboard.

Source: after Jin et al. 2025 (arXiv 2507.01744), "Upscale"; widths are not published, so they are ours.
"""

from dataclasses import dataclass

from einops import rearrange
from torch import nn
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.types import Edges, Image, Tokens
from apatite.nn.decoders.prior import start_rare
from apatite.nn.vit import ViTConfig

NARROWEST = 16


@dataclass(frozen=True, kw_only=True)
class UpscaleConfig:
    """The Upscale decoder.

    Attributes:
        first_dim: Width of the first stage; 0 means half the encoder's.
    """

    first_dim: int = 0


class UpscaleDecoder(nn.Module):
    """From tokens to logits by repeated doubling.

    Args:
        encoder: Shape of the encoder whose tokens come in; its patch edges must be powers of two.
        config: Widths.
        labels: Logits per voxel.

    Raises:
        ConfigError: a patch edge is not a power of two.
    """

    def __init__(self, encoder: ViTConfig, config: UpscaleConfig, labels: int) -> None:
        super().__init__()
        if any(edge & (edge - 1) for edge in encoder.patch):
            raise ConfigError(
                f"the Upscale decoder doubles, so patch edges {encoder.patch} must be powers of two",
                fix="use 2, 4, 8 or 16",
            )
        self.tokens = encoder.tokens
        self.factors = doubling_plan(encoder.patch)
        width = config.first_dim or max(NARROWEST, encoder.dim // 2)
        self.stages = nn.ModuleList()
        incoming = encoder.dim
        for _ in self.factors:
            self.stages.append(
                nn.Sequential(
                    nn.Conv3d(incoming, width, 3, padding=1),
                    nn.InstanceNorm3d(width, affine=True),
                    nn.LeakyReLU(0.01),
                )
            )
            incoming, width = width, max(NARROWEST, width // 2)
        self.head = nn.Conv3d(incoming, labels, 1)
        start_rare(self.head)

    def forward(self, tokens: Tokens) -> Image:
        """Logits `batch labels depth height width`."""
        depth, height, width = self.tokens
        features = rearrange(tokens, "b (z y x) c -> b c z y x", z=depth, y=height, x=width)
        for factor, stage in zip(self.factors, self.stages, strict=True):
            features = stage(F.interpolate(features, scale_factor=tuple(map(float, factor)), mode="nearest"))
        return self.head(features)


def doubling_plan(patch: Edges) -> list[Edges]:
    """Per stage, the factor along depth, height, width; short axes double in the last stages.

    >>> doubling_plan((2, 4, 4))
    [(1, 2, 2), (2, 2, 2)]
    """
    stages = max(edge.bit_length() - 1 for edge in patch)
    return [tuple(2 if stages - stage <= edge.bit_length() - 1 else 1 for edge in patch) for stage in range(stages)]  # type: ignore[misc]
