"""The transformer decoder of a masked autoencoder; with weights reset it is also a segmentation head.

Tokens are narrowed, hidden places are filled with one learned token, positions are added, and after the blocks each
token predicts the voxels of its own patch.

Source: He et al. 2022 (arXiv 2111.06377), section 3 and appendix A; as a segmentation head Jin et al. 2025
(arXiv 2507.01744), "MAE decoder".
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from apatite.core.errors import ConfigError
from apatite.core.types import Rows, TokenChoice
from apatite.nn.attention import AttentionKernel
from apatite.nn.linear import Linear
from apatite.nn.patches import place_tokens, take_tokens
from apatite.nn.positions import sincos_positions
from apatite.nn.transformer import Transformer, initialise
from apatite.nn.vit import ViTConfig


@dataclass(frozen=True, kw_only=True)
class TokenDecoderConfig:
    """Shape of a `TokenDecoder`: width, blocks, heads."""

    dim: int = 120
    depth: int = 8
    heads: int = 12

    def __post_init__(self) -> None:
        if self.dim % 6 or self.dim % self.heads:
            raise ConfigError(
                f"a width of {self.dim} must be a multiple of 6 and of the {self.heads} heads",
                fix="change dim or heads",
            )


class TokenDecoder(nn.Module):
    """From encoded tokens to the voxels of every patch.

    Args:
        encoder: Shape of the encoder whose tokens come in.
        config: Shape of this decoder.
        outputs: Values per voxel: input channels when reconstructing, labels when segmenting.
        kernel: How attention is computed.
    """

    positions: Tensor

    def __init__(self, encoder: ViTConfig, config: TokenDecoderConfig, outputs: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.narrow = Linear(encoder.dim, config.dim, by_onednn=kernel.by_onednn)
        self.register_buffer("positions", sincos_positions(encoder.tokens, config.dim), persistent=False)
        self.transformer = Transformer(config.dim, config.depth, config.heads, kernel)
        self.head = Linear(config.dim, encoder.patch_voxels * outputs, by_onednn=kernel.by_onednn)
        self.apply(initialise)

    def forward(self, tokens: Rows) -> Rows:
        """Predict every patch from all tokens: `batch tokens (patch voxels x outputs)`."""
        return self.head(self.features(tokens))

    def features(self, tokens: Rows) -> Rows:
        """What the head reads: `batch tokens dim`."""
        return self.transformer(self.narrow(tokens) + self.positions)


class FillingDecoder(nn.Module):
    """Is given visible tokens only and predicts the hidden patches; arguments as `TokenDecoder`."""

    def __init__(self, encoder: ViTConfig, config: TokenDecoderConfig, outputs: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.decoder = TokenDecoder(encoder, config, outputs, kernel)
        self.hidden_token = nn.Parameter(torch.zeros(config.dim))
        nn.init.normal_(self.hidden_token, std=0.02)

    @property
    def positions(self) -> Tensor:
        """One row per token."""
        return self.decoder.positions

    def forward(self, tokens: Rows, visible: TokenChoice, hidden: TokenChoice) -> Rows:
        """Predict the hidden patches: `batch hidden (patch voxels x outputs)`.

        Args:
            tokens: Encoded visible tokens.
            visible: Which tokens those are.
            hidden: Which are to be predicted.
        """
        narrow = self.decoder.narrow(tokens)
        filler = self.hidden_token.to(narrow.dtype).expand(len(tokens), len(self.positions), -1)
        filled = place_tokens(filler, narrow, visible) + self.positions
        return self.decoder.head(take_tokens(self.decoder.transformer(filled), hidden))
