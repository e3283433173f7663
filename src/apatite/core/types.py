"""Shapes of the tensors that cross module borders.

Axes of images are always `depth height width`: depth runs along k (slices), height along j, width along i. This is
the one file of `core` that knows torch; it is imported from `nn` upward only.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

Edges = tuple[int, int, int]
"""Three edge lengths in voxels: depth, height, width."""

Image = Float[Tensor, "batch channels depth height width"]
"""A batch of images or of per-voxel logits."""
LabelMap = Int[Tensor, "batch depth height width"]
"""One integer label per voxel; 0 is background, 255 means not annotated."""
Tokens = Float[Tensor, "batch tokens dim"]
"""One row per patch, in the order of `nn.patches.patchify`; in one signature, count and width stay the same."""
Rows = Float[Tensor, "batch _ _"]
"""The same, where count or width change between what goes in and what comes out."""
TokenChoice = Int[Tensor, "batch _"]
"""Indices of chosen tokens, ascending within each sample."""
IsHidden = Bool[Tensor, "batch tokens"]
"""True where the encoder must not look."""
Scalar = Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True, eq=False)
class Projected:
    """What a projection head makes of rows of tokens. Logits, the cosines of both, are made where they are used.

    Attributes:
        points: Unit length, one per row.
        prototypes: Unit length, one per prototype.
    """

    points: Float[Tensor, "rows dim"]
    prototypes: Float[Tensor, "prototypes dim"]
