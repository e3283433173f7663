"""The networks that are pre-trained, each a branch that makes of a view what its terms ask for.

A branch owns the heads of what several terms may share: the reconstruction of hidden patches, the place of the crop.
All branches of a method see the same crops with the same patches hidden; the transformer leaves hidden patches out, a
network of convolutions, which cannot, sees them blank.

Source: the masked autoencoder, He et al. 2022 (arXiv 2111.06377); two branches after Gu et al. 2024 (arXiv 2406.10519).
Differs: how the paper feeds UNETR++ and where its position heads sit is not known. Here hidden patches are blanked with
0, the middle of each window; the ViT's head reads the mean of its visible tokens (it has no class token), that of
UNETR++ the mean of its coarsest map.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from einops import rearrange
from torch import nn

from apatite.core.errors import ConfigError
from apatite.core.types import Rows
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import FillingDecoder, TokenDecoderConfig
from apatite.nn.patches import patchify, take_tokens
from apatite.nn.unetrpp.network import UNETRPPConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.view import Points, Seen, View, rows_of

Made = Literal["reconstruction", "points"]
"""What a term may ask a branch to make."""
NUM_POINTS = 9


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Shapes of the networks of a method.

    Attributes:
        vit: The transformer; its crop, windows and patches are those of the view, whether it takes part or not.
        decoder: The transformer's decoder that reconstructs.
        unetrpp: UNETR++; `None` where no branch is one.
    """

    vit: ViTConfig
    decoder: TokenDecoderConfig
    unetrpp: UNETRPPConfig | None = None


class Branch(nn.Module, ABC):
    """One network and the heads that its terms ask for."""

    @abstractmethod
    def look(self, view: View) -> Seen:
        """What the network makes of a view."""


class ViTBranch(Branch):
    """The masked autoencoder: an encoder of visible patches, and a small decoder that fills in the hidden ones."""

    def __init__(self, shapes: Shapes, kernel: AttentionKernel, makes: frozenset[Made]) -> None:
        super().__init__()
        self.encoder = shapes.vit.build(kernel)
        channels = len(shapes.vit.windows_hu)
        self.reconstruct = (
            FillingDecoder(shapes.vit, shapes.decoder, channels, kernel) if "reconstruction" in makes else None
        )
        self.locate = PointHead(shapes.vit.dim) if "points" in makes else None

    def look(self, view: View) -> Seen:
        """Encode the visible patches, and make of them what is asked for."""
        tokens = self.encoder(view.patches, view.visible)
        return Seen(
            view=view,
            features=tokens,
            reconstruction=None if self.reconstruct is None else self.reconstruct(tokens, view.visible, view.hidden),
            points=None if self.locate is None else self.locate(tokens),
        )


class UNETRPPBranch(Branch):
    """UNETR++ on the blanked image, with one output per input channel in place of labels."""

    def __init__(self, shapes: Shapes, kernel: AttentionKernel, makes: frozenset[Made]) -> None:
        super().__init__()
        del kernel  # its attention is along other axes
        if shapes.unetrpp is None:
            raise ConfigError("a branch is a UNETR++, but no shape is given for one", where="unetrpp")
        channels = len(shapes.vit.windows_hu)
        self.network = shapes.unetrpp.build(outputs=channels, deep=False)
        self.locate = PointHead(shapes.unetrpp.widths[-1]) if "points" in makes else None

    def look(self, view: View) -> Seen:
        """Look at the image without its hidden patches."""
        image = view.image_with(torch.zeros_like(view.hidden_patches()))
        stages = self.network.stages(image)
        filled = self.network.outputs(image, stages)[0]
        features = rows_of(stages[-1])
        return Seen(
            view=view,
            features=features,
            reconstruction=take_tokens(patchify(filled, view.patch), view.hidden),
            points=None if self.locate is None else self.locate(features),
        )


class PointHead(nn.Module):
    """From the mean of a branch's features to nine points in the volume, which begin in its middle."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, NUM_POINTS * 3)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.constant_(self.linear.bias, 0.5)

    def forward(self, features: Rows) -> Points:
        """Fractions of the volume; nothing keeps them between 0 and 1."""
        # In bf16 a place would be known to a hundredth of the volume.
        with torch.autocast(features.device.type, enabled=False):
            points = self.linear(features.float().mean(dim=1))
        return rearrange(points, "b (points axes) -> b points axes", axes=3)


BuildBranch = Callable[[Shapes, AttentionKernel, frozenset[Made]], Branch]

BRANCHES: Final[dict[str, BuildBranch]] = {
    "vit": ViTBranch,
    "unetrpp": UNETRPPBranch,
}
