"""Where an encoder's tokens are read on their way, one row per cell: what the terms of self-distillation see.

    tap          Swin                                                        ViT
    merged3      after stage 3 and its merging, the input of stage 4         after three quarters of its blocks
    stage4       after stage 4, before its merging                           after its last block, before the norm
    deep         after stage 4's merging: coarser and wider                  after the final norm

`merged3` and `stage4` are on the grid of cells and equally wide, so that a term may be moved from one to the other.

Source: the released code of SMIT reads its distillation losses at `merged3` and its reconstruction at `deep` (Jiang et
al. 2022, arXiv 2205.10342); the released code of iBOT and DINO at the end of the encoder.
Differs: a ViT has no stages; three quarters of its blocks are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from apatite.core.types import Rows, Tokens

Tap = Literal["merged3", "stage4"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Taps:
    """What an encoder made of an image, `batch cells width` each, cells in the order of `nn.patches.patchify`.

    Attributes:
        merged3: Not normalised.
        stage4: Not normalised.
        deep: On a grid and with a width of its own; a Swin's is not normalised.
        roots: For each tap what its tokens, and all that the encoder makes after it, are functions of, in any layout.
    """

    merged3: Tokens
    stage4: Tokens
    deep: Rows
    roots: Mapping[Tap, Tensor]

    def at(self, tap: Tap) -> Tokens:
        """The tokens of a tap."""
        return self.merged3 if tap == "merged3" else self.stage4
