"""The MAE decoder as a segmentation head: every token predicts the logits of its own patch.

Source: after Jin et al. 2025 (arXiv 2507.01744), "MAE decoder": the pre-training decoder's architecture with its
weights drawn anew.
"""

from collections.abc import Iterator

from apatite.core.types import Image
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.decoder import Decoder, FeatureMap
from apatite.nn.decoders.prior import start_rare
from apatite.nn.decoders.tokens import TokenDecoder, TokenDecoderConfig
from apatite.nn.patches import unpatchify
from apatite.nn.vit import Encoded, ViTConfig


class MAEDecoder(Decoder):
    """The pre-training decoder's architecture with fresh weights, predicting logits instead of intensities."""

    def __init__(self, encoder: ViTConfig, config: TokenDecoderConfig, labels: int, kernel: AttentionKernel) -> None:
        super().__init__(encoder)
        self.decoder = TokenDecoder(encoder, config, labels, kernel)
        start_rare(self.decoder.head)

    def feature_maps(self, encoded: Encoded) -> Iterator[FeatureMap]:
        """One map, an element per patch: between it and the voxels there is only a linear layer."""
        yield FeatureMap(stride=self.patch, values=self.map_of(self.decoder.features(encoded.tokens)))

    def forward(self, encoded: Encoded) -> Image:
        """Logits `batch labels depth height width`."""
        return unpatchify(self.decoder(encoded.tokens), self.tokens, self.patch)
