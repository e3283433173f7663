"""The sizes of ViTiac by name, and the usual B.

Source: Jin et al. 2025 (arXiv 2507.01744): S 240/12/12 with a decoder 120/8/12, M 480 with 240, L 960 with 480; all
with 12 blocks, 12 heads and an 8-block decoder. XS is ours, for two cores. B is that of the public code of SelfMedMAE
(cvlab-stonybrook/SelfMedMAE, commit 21f38b1).
"""

from dataclasses import dataclass
from typing import Final

from apatite.core.registry import choose
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Width, blocks and heads of the encoder and of the pre-training decoder."""

    dim: int
    depth: int
    heads: int
    decoder: TokenDecoderConfig
    note: str

    def encoder(self, **changes: object) -> ViTConfig:
        """The encoder's config; `changes` set the crop, the patch, the windows."""
        return ViTConfig(dim=self.dim, depth=self.depth, heads=self.heads, **changes)  # type: ignore[arg-type]


def _paper(dim: int, note: str) -> ModelSize:
    return ModelSize(
        dim=dim, depth=12, heads=12, decoder=TokenDecoderConfig(dim=dim // 2, depth=8, heads=12), note=note
    )


MODELS: Final[dict[str, ModelSize]] = {
    "vitiac-xs": ModelSize(
        dim=96, depth=4, heads=2, decoder=TokenDecoderConfig(dim=48, depth=2, heads=2), note="ours, for two cores"
    ),
    "vitiac-s": _paper(240, "S of Jin 2025"),
    "vitiac-m": _paper(480, "M of Jin 2025"),
    "vitiac-l": _paper(960, "L of Jin 2025"),
    "vit-b": _paper(768, "B, with the decoder of SelfMedMAE"),
}


def model_size(name: str) -> ModelSize:
    """The size of that name.

    Raises:
        ConfigError: the name is unknown.
    """
    return choose(MODELS, name, "model")
