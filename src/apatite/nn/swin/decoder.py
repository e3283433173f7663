"""A U-Net from the maps of a Swin transformer and the image to logits: the decoder of Swin UNETR.

    map      stride      width     on its way in          then
    image    1           -         residual block         fifth step: doubled by the patch
    1        patch       dim       residual block         fourth step
    2        2 patch     2 dim     residual block         third step
    3        4 patch     4 dim     residual block         second step
    4        8 patch     8 dim     as it is               first step
    5        16 patch    16 dim    residual block         where it begins

Which tokens the first four maps are is the encoder's convention (`swin.config`). A step is a transposed convolution,
the skipped map beside what it makes, and a residual block over both. A grid of odd edges was padded by the merging;
what the next step makes of the padding is cut away.

Source: Hatamizadeh et al. 2022 (arXiv 2201.01266), to whose network in MONAI this one is equal but for the weights of
its norms; the public code of SMIT (Jiang et al. 2022, arXiv 2205.10342; The-Veeraraghavan-Lab/SMIT, commit 5d81399) has
the same decoder.
Differs: MONAI's instance norms have no weights, ours have scale and offset, as in all our decoders; maps of fewer
voxels than an instance norm survives are normalised over their channels together (`decoders.blocks`); any patch, also
of unequal edges. SMIT's released fine-tuning has batch norms, by accident: its command line says instance norm, and
what it says is not passed on.
"""

import torch
from torch import nn

from apatite.core.types import Edges
from apatite.nn.decoders.blocks import ResidualBlock, UpStep
from apatite.nn.decoders.decoder import Maps
from apatite.nn.decoders.prior import start_rare
from apatite.nn.swin.config import SwinConfig
from apatite.nn.vit import Encoded

HALVING: Edges = (2, 2, 2)
"""Of a merging."""
AS_IT_IS = 3
"""Place of the map that joins without a block."""


class SwinDecoder(nn.Module):
    """From the five maps of a Swin and the windowed image to logits.

    Args:
        swin: Shape of the encoder.
        labels: Logits per voxel.

    Attributes:
        taps: Blocks whose tokens are needed beside the maps: none.
        sees_image: That the windowed image is needed.
        head: From the finest map to logits.
    """

    taps: tuple[int, ...] = ()
    sees_image: bool = True

    def __init__(self, swin: SwinConfig, labels: int) -> None:
        super().__init__()
        widths = swin.map_dims
        self.image_block = ResidualBlock(len(swin.windows_hu), swin.dim)
        self.map_blocks = nn.ModuleList(
            nn.Identity() if place == AS_IT_IS else ResidualBlock(width, width) for place, width in enumerate(widths)
        )
        coarse_to_fine = list(zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True))
        self.steps = nn.ModuleList(_step(incoming, width, HALVING) for incoming, width in coarse_to_fine)
        self.steps.append(_step(swin.dim, swin.dim, swin.patch))
        self.head = nn.Conv3d(swin.dim, labels, 1)
        start_rare(self.head)

    def forward(self, encoded: Encoded) -> Maps:
        """Logits `batch labels depth height width`."""
        assert encoded.image is not None and len(encoded.maps) == len(self.map_blocks), "a Swin gives them"
        skips = [self.image_block(encoded.image)]
        skips += [block(values) for block, values in zip(self.map_blocks, encoded.maps, strict=True)]
        features: torch.Tensor = skips.pop()
        for step in self.steps:
            features = step(features, (skips.pop(),))
        return self.head(features)


def _step(incoming: int, width: int, factor: Edges) -> UpStep:
    """One doubling, with one map that was skipped."""
    return UpStep(incoming, width, factor, num_skips=1, upsampling="transposed", block=ResidualBlock)
