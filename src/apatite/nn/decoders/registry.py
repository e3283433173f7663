"""The segmentation decoders by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from torch import nn

from apatite.core.registry import choose
from apatite.core.types import Image, Tokens
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.prior import start_rare
from apatite.nn.decoders.tokens import TokenDecoder, TokenDecoderConfig
from apatite.nn.decoders.upscale import UpscaleConfig, UpscaleDecoder
from apatite.nn.patches import unpatchify
from apatite.nn.vit import ViTConfig


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Which segmentation decoder, and the shape of it.

    Attributes:
        name: A key of `DECODERS`.
        mae: Shape of the MAE decoder; the pre-training decoder's by default.
        upscale: Shape of the Upscale decoder.
    """

    name: str = "mae"
    mae: TokenDecoderConfig = field(default_factory=TokenDecoderConfig)
    upscale: UpscaleConfig = field(default_factory=UpscaleConfig)

    def build(self, encoder: ViTConfig, labels: int, kernel: AttentionKernel | None = None) -> nn.Module:
        """A decoder with fresh weights."""
        return choose(DECODERS, self.name, "decoder")(encoder, self, labels, kernel or AttentionKernel())


class MAEDecoder(nn.Module):
    """The pre-training decoder's architecture with fresh weights, predicting logits instead of intensities."""

    def __init__(self, encoder: ViTConfig, config: TokenDecoderConfig, labels: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.decoder = TokenDecoder(encoder, config, labels, kernel)
        start_rare(self.decoder.head)
        self.tokens, self.patch = encoder.tokens, encoder.patch

    def forward(self, tokens: Tokens) -> Image:
        """Logits `batch labels depth height width`."""
        return unpatchify(self.decoder(tokens), self.tokens, self.patch)


Build = Callable[[ViTConfig, DecoderConfig, int, AttentionKernel], nn.Module]


def build_mae(encoder: ViTConfig, config: DecoderConfig, labels: int, kernel: AttentionKernel) -> nn.Module:
    """The pre-training decoder's architecture with fresh weights; after Jin 2025."""
    return MAEDecoder(encoder, config.mae, labels, kernel)


def build_upscale(encoder: ViTConfig, config: DecoderConfig, labels: int, kernel: AttentionKernel) -> nn.Module:
    """Nearest neighbour and convolutions, doubled to full size; after Jin 2025."""
    del kernel  # it has no attention
    return UpscaleDecoder(encoder, config.upscale, labels)


DECODERS: Final[dict[str, Build]] = {"mae": build_mae, "upscale": build_upscale}
