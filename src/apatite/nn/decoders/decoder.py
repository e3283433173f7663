"""What every segmentation decoder is: it says what it needs of the encoder, and its maps can be looked at."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.errors import ConfigError
from apatite.core.types import Edges, Rows
from apatite.nn.vit import Encoded, ViTConfig

Maps = Float[Tensor, "batch _ _ _ _"]
"""`batch channels depth height width`, where channels or edges change between what goes in and what comes out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMap:
    """Features on the way from tokens to logits.

    Attributes:
        stride: Voxels per element along depth, height, width.
        values: `batch channels depth height width`.
    """

    stride: Edges
    values: Maps


class Decoder(nn.Module):
    """From what the encoder says to one logit per voxel and label.

    Args:
        encoder: Shape of the encoder.

    Attributes:
        taps: Blocks of the encoder, counted from 1, after which the tokens are needed as well.
        sees_image: Whether the windowed image is needed.
        head: From the finest map to logits.
    """

    taps: tuple[int, ...] = ()
    sees_image: bool = False
    head: nn.Module

    def __init__(self, encoder: ViTConfig) -> None:
        super().__init__()
        self.tokens, self.patch = encoder.tokens, encoder.patch

    def feature_maps(self, encoded: Encoded) -> Iterator[FeatureMap]:
        """The maps that `forward` goes through, the coarsest first; each is forgotten once the next one is made."""
        raise NotImplementedError

    def forward(self, encoded: Encoded) -> Maps:
        """Logits `batch labels depth height width`."""
        return self.head(deque(self.feature_maps(encoded), maxlen=1).pop().values)

    def map_of(self, tokens: Rows) -> Maps:
        """Tokens at their places: `batch dim depth height width`, one element per patch."""
        depth, height, width = self.tokens
        return rearrange(tokens, "b (z y x) c -> b c z y x", z=depth, y=height, x=width)


def refuse_narrow(width: int, decoder: str) -> None:
    """A width of 1 leaves nothing to normalise over.

    Raises:
        ConfigError: it is below 2.
    """
    if width < 2:
        raise ConfigError(f"the {decoder} decoder's width is {width}", fix="use at least 2; 16 is usual")
