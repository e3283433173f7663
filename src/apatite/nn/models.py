"""The encoders by name: the sizes of ViTiac, the usual B, and the Swins.

Source: Jin et al. 2025 (arXiv 2507.01744): S 240/12/12 with a decoder 120/8/12, M 480 with 240, L 960 with 480; all
with 12 blocks, 12 heads and an 8-block decoder. XS is ours, for two cores. B is that of the public code of SelfMedMAE
(cvlab-stonybrook/SelfMedMAE, commit 21f38b1). The Swins' sources stand in `nn.swin.presets`.
"""

from dataclasses import dataclass
from typing import Final

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.types import Edges
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.intensity import Window
from apatite.nn.stem import StemName
from apatite.nn.swin.presets import SWINS, SwinSize
from apatite.nn.vit import HEAD_CT_WINDOWS_HU, ViTConfig

VIT_CROP: Final[Edges] = (32, 96, 96)
VIT_PATCH: Final[Edges] = (4, 4, 4)


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Width, blocks and heads of a ViT and of its pre-training decoder."""

    dim: int
    depth: int
    heads: int
    decoder: TokenDecoderConfig
    note: str

    @property
    def summary(self) -> str:
        """One line for a list of models."""
        decoder = f"{self.decoder.dim}/{self.decoder.depth}/{self.decoder.heads}"
        return f"width {self.dim}, {self.depth} blocks, {self.heads} heads; decoder {decoder}; {self.note}"

    def encoder(
        self,
        *,
        crop: Edges | None = None,
        patch: Edges | None = None,
        windows_hu: tuple[Window, ...] | None = None,
        stem: StemName = "linear",
        drop_path: float = 0.0,
    ) -> ViTConfig:
        """The encoder's config; where nothing is given, the crop, the patch and the windows are those of head CT."""
        return ViTConfig(
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            crop=crop or VIT_CROP,
            patch=patch or VIT_PATCH,
            windows_hu=windows_hu or HEAD_CT_WINDOWS_HU,
            stem=stem,
            drop_path=drop_path,
        )


def _paper(dim: int, note: str) -> ModelSize:
    return ModelSize(
        dim=dim, depth=12, heads=12, decoder=TokenDecoderConfig(dim=dim // 2, depth=8, heads=12), note=note
    )


VITS: Final[dict[str, ModelSize]] = {
    "vitiac-xs": ModelSize(
        dim=96, depth=4, heads=2, decoder=TokenDecoderConfig(dim=48, depth=2, heads=2), note="ours, for two cores"
    ),
    "vitiac-s": _paper(240, "S of Jin 2025"),
    "vitiac-m": _paper(480, "M of Jin 2025"),
    "vitiac-l": _paper(960, "L of Jin 2025"),
    "vit-b": _paper(768, "B, with the decoder of SelfMedMAE"),
}

MODELS: Final[dict[str, ModelSize | SwinSize]] = {**VITS, **SWINS}


def model_size(name: str) -> ModelSize | SwinSize:
    """The size of that name.

    Raises:
        ConfigError: the name is unknown.
    """
    return choose(MODELS, name, "model")


def vit_size(name: str) -> ModelSize:
    """The same where only a ViT will do.

    Raises:
        ConfigError: the name is unknown, or a Swin's.
    """
    size = model_size(name)
    if isinstance(size, SwinSize):
        raise ConfigError(f"{name} is a Swin, and a ViT is needed here", fix=f"choose one of {', '.join(VITS)}")
    return size
