"""The terms a pre-training method is made of: one class per named loss.

A method is a table of weighted terms (see `methods`). A term owns the head it needs; a term that a method does not
name is never built and costs nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import nn

from apatite.core.types import Rows, Scalar, TokenChoice
from apatite.losses.reconstruction import mean_squared_error, normalise_patches
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import FillingDecoder, TokenDecoderConfig
from apatite.nn.patches import take_tokens
from apatite.nn.vit import ViTConfig


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What the encoder was given and what it made of it.

    Attributes:
        patches: All patches in network units, `batch tokens (patch voxels x channels)`.
        tokens: The encoded visible tokens.
        visible, hidden: Which tokens were seen and which were not.
    """

    patches: Rows
    tokens: Rows
    visible: TokenChoice
    hidden: TokenChoice


class Term(nn.Module, ABC):
    """One named loss over what the encoder made of a batch."""

    @abstractmethod
    def loss(self, seen: Pass) -> Scalar:
        """The loss, not yet weighted."""


class ReconstructHidden(Term):
    """Predict the hidden patches, each normalised by its own mean and variance.

    Source: He et al. 2022 (arXiv 2111.06377), sections 3 and 4.1.
    """

    def __init__(
        self, encoder: ViTConfig, decoder: TokenDecoderConfig, kernel: AttentionKernel, target_floor_hu: float = 0.0
    ) -> None:
        super().__init__()
        self.channels = len(encoder.windows_hu)
        # The network's unit runs from -1 to 1 over a window.
        self.target_floor = tuple(2 * target_floor_hu / (high - low) for low, high in encoder.windows_hu)
        self.head = FillingDecoder(encoder, decoder, self.channels, kernel)

    def predict(self, seen: Pass) -> Rows:
        """Normalised hidden patches: `batch hidden (patch voxels x channels)`."""
        return self.head(seen.tokens, seen.visible, seen.hidden)

    def loss(self, seen: Pass) -> Scalar:
        """Mean squared error on hidden patches."""
        return mean_squared_error(self.predict(seen), self.target(seen))

    def target(self, seen: Pass) -> Rows:
        """What `predict` should give."""
        return normalise_patches(take_tokens(seen.patches, seen.hidden), self.channels, self.target_floor)


BuildTerm = Callable[[ViTConfig, TokenDecoderConfig, AttentionKernel, float], Term]

TERMS: Final[dict[str, BuildTerm]] = {
    "reconstruct_hidden": ReconstructHidden,
}
