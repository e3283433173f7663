"""Pre-training methods as a table of weighted terms; there is no branch on a method's name anywhere.

A new mixture is one entry here; a new term is one class in `terms`, one loss, one entry.
"""

from dataclasses import dataclass
from typing import Final

from torch import nn

from apatite.core.registry import choose
from apatite.core.types import Scalar, TokenChoice
from apatite.data.batches import Batch
from apatite.data.hiding import hide_randomly, num_visible
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.terms import TERMS, Pass


@dataclass(frozen=True, kw_only=True)
class Method:
    """What is learned from an unlabelled crop.

    Attributes:
        terms: Weight of each named term.
        hidden_ratio: Share of the patches that the encoder does not see.
        paper: Where it comes from.
        target_floor_hu: Patches whose spread is below this count as flat in the target; 0 is the papers'.
    """

    terms: dict[str, float]
    hidden_ratio: float
    paper: str
    target_floor_hu: float = 0.0


METHODS: Final[dict[str, Method]] = {
    "mae": Method(
        terms={"reconstruct_hidden": 1.0},
        hidden_ratio=0.9,
        paper="He et al. 2022 (arXiv 2111.06377); 90 % hidden after Jin et al. 2025 (arXiv 2507.01744)",
    ),
}


class PretrainTask(nn.Module):
    """The encoder with the terms of a method; the task that the loop minimises.

    Args:
        method: Weighted terms and the hidden ratio.
        encoder: Shape of the encoder.
        decoder: Shape of the decoder that reconstructs.
        kernel: How attention is computed.
        seed: Of the hidden patches.

    Raises:
        ConfigError: the ratio leaves nothing visible or nothing hidden.
    """

    def __init__(
        self, method: Method, encoder: ViTConfig, decoder: TokenDecoderConfig, kernel: AttentionKernel, seed: int
    ) -> None:
        super().__init__()
        num_visible(encoder.num_tokens, method.hidden_ratio)  # an impossible ratio is refused before any step
        self.method, self.seed = method, seed
        self.encoder = encoder.build(kernel)
        self.terms = nn.ModuleDict(
            {
                name: choose(TERMS, name, "term")(encoder, decoder, kernel, method.target_floor_hu)
                for name in method.terms
            }
        )

    @property
    def module(self) -> nn.Module:
        """All that learns."""
        return self

    def losses(self, batch: Batch, step: int) -> dict[str, Scalar]:
        """Each term's weighted loss on a batch."""
        seen = self.look(batch, step)
        return {name: weight * self.terms[name].loss(seen) for name, weight in self.method.terms.items()}  # type: ignore[operator]

    def look(self, batch: Batch, step: int) -> Pass:
        """Hide patches for this step and encode the rest."""
        visible, hidden = self._hide(batch, step)
        patches = self.encoder.patches_of(batch.images_hu)
        return Pass(patches=patches, tokens=self.encoder(patches, visible), visible=visible, hidden=hidden)

    def _hide(self, batch: Batch, step: int) -> tuple[TokenChoice, TokenChoice]:
        num_tokens = self.encoder.config.num_tokens
        visible, hidden = hide_randomly(self.seed, step, batch.sample_ids, num_tokens, self.method.hidden_ratio)
        device = batch.images_hu.device
        return visible.to(device), hidden.to(device)
