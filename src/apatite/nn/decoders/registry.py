"""The segmentation decoders by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from apatite.core.registry import choose
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.decoder import Decoder
from apatite.nn.decoders.mae import MAEDecoder
from apatite.nn.decoders.sfpn import SFPNConfig, SFPNDecoder
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.decoders.unetr import UNETRConfig, UNETRDecoder
from apatite.nn.decoders.upsampling import UpsamplingName
from apatite.nn.decoders.upscale import UpscaleConfig, UpscaleDecoder
from apatite.nn.vit import ViTConfig


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Which segmentation decoder, and the shape of it.

    Attributes:
        name: A key of `DECODERS`.
        upsampling: How `upscale`, `sfpn` and `unetr` double: `nearest` neighbour and a convolution, or a `transposed`
            convolution, which is what the paper of `unetr` has; `mae` doubles nothing.
        mae: Shape of the MAE decoder; the pre-training decoder's by default.
        upscale: Shape of the Upscale decoder.
        sfpn: Shape of the SFPN U-Net.
        unetr: Shape of the UNETR decoder.
    """

    name: str = "mae"
    upsampling: UpsamplingName = "nearest"
    mae: TokenDecoderConfig = field(default_factory=TokenDecoderConfig)
    upscale: UpscaleConfig = field(default_factory=UpscaleConfig)
    sfpn: SFPNConfig = field(default_factory=SFPNConfig)
    unetr: UNETRConfig = field(default_factory=UNETRConfig)

    def build(self, encoder: ViTConfig, labels: int, kernel: AttentionKernel | None = None) -> Decoder:
        """A decoder with fresh weights."""
        return choose(DECODERS, self.name, "decoder")(encoder, self, labels, kernel or AttentionKernel())


Build = Callable[[ViTConfig, DecoderConfig, int, AttentionKernel], Decoder]


def build_mae(encoder: ViTConfig, config: DecoderConfig, labels: int, kernel: AttentionKernel) -> Decoder:
    """The pre-training decoder's architecture with fresh weights; after Jin 2025."""
    return MAEDecoder(encoder, config.mae, labels, kernel)


def build_upscale(encoder: ViTConfig, config: DecoderConfig, labels: int, kernel: AttentionKernel) -> Decoder:
    """The last map doubled to full size, one convolution per doubling; after Jin 2025."""
    del kernel  # it has no attention
    return UpscaleDecoder(encoder, config.upscale, labels, config.upsampling)


def build_sfpn(encoder: ViTConfig, config: DecoderConfig, labels: int, kernel: AttentionKernel) -> Decoder:
    """A U-Net over a pyramid of the last map; after Li 2022 (ViTDet) and Jin 2025."""
    del kernel
    return SFPNDecoder(encoder, config.sfpn, labels, config.upsampling)


def build_unetr(encoder: ViTConfig, config: DecoderConfig, labels: int, kernel: AttentionKernel) -> Decoder:
    """A U-Net over hidden states at quarter depths and the image; Hatamizadeh 2022."""
    del kernel
    return UNETRDecoder(encoder, config.unetr, labels, config.upsampling)


DECODERS: Final[dict[str, Build]] = {
    "mae": build_mae,
    "upscale": build_upscale,
    "sfpn": build_sfpn,
    "unetr": build_unetr,
}
