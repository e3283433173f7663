"""What convolutional decoders are made of: a norm that small maps survive, two kinds of block, and a step of a U-Net.

Source: blocks after nnU-Net (Isensee et al. 2021) and UNETR (Hatamizadeh et al. 2022), as MONAI has them.
Differs: the norm of small maps; maps of odd edges, halved and doubled again.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.types import Edges
from apatite.nn.decoders.convolution import Conv
from apatite.nn.decoders.decoder import Maps
from apatite.nn.decoders.upsampling import UpsamplingName, doubling

FEWEST_VOXELS = 8
"""Of a map whose channels are normalised each by itself."""
SLOPE = 0.01


class MapNorm(nn.InstanceNorm3d):
    """Instance norm with learned scale and offset; a map of fewer than `FEWEST_VOXELS` shares one norm in all channels.

    The mean and spread of a channel over one voxel do not exist, and over two voxels every channel comes out as ±1
    whatever it was. So a small map is normalised over channels and voxels together, as a group norm of one group does;
    the weights are the same, so a network does not depend on the size of its crop.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        """`batch channels depth height width`; the shape does not change."""
        if input.shape[2:].numel() >= FEWEST_VOXELS:
            return super().forward(input)
        return F.group_norm(input, 1, self.weight, self.bias, self.eps)


def smooth(incoming: int, width: int, kernel: Literal[1, 3]) -> nn.Sequential:
    """A convolution that keeps the edges, the norm, a leaky rectifier."""
    convolution = Conv(incoming, width) if kernel == 3 else nn.Conv3d(incoming, width, kernel, bias=False)
    return nn.Sequential(convolution, MapNorm(width), nn.LeakyReLU(SLOPE))


def double_block(incoming: int, width: int) -> nn.Module:
    """Twice a 3×3×3 convolution, norm and leaky rectifier: the block of a plain U-Net."""
    return nn.Sequential(smooth(incoming, width, 3), smooth(width, width, 3))


class ResidualBlock(nn.Module):
    """The same, with what came in added before the last rectifier; through a 1×1×1 convolution where widths differ."""

    def __init__(self, incoming: int, width: int) -> None:
        super().__init__()
        self.smooth = smooth(incoming, width, 3)
        self.again = nn.Sequential(Conv(width, width), MapNorm(width))
        self.across = (
            nn.Identity()
            if incoming == width
            else nn.Sequential(nn.Conv3d(incoming, width, 1, bias=False), MapNorm(width))
        )

    def forward(self, features: Maps) -> Maps:
        """The edges do not change."""
        return F.leaky_relu(self.again(self.smooth(features)) + self.across(features), SLOPE)


class UpStep(nn.Module):
    """One step of a U-Net from coarse to fine: double, put what was skipped beside it, and a block over both.

    Args:
        incoming, width: Channels before and after; of every skipped map as after.
        factor: Of the doubling along depth, height, width.
        num_skips: Skipped maps.
        upsampling: How to double.
        block: From incoming channels and width to a block.
    """

    def __init__(
        self,
        incoming: int,
        width: int,
        factor: Edges,
        *,
        num_skips: int,
        upsampling: UpsamplingName,
        block: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.up = doubling(upsampling, incoming, width, factor)
        self.block = block((1 + num_skips) * width, width)

    def forward(self, features: Maps, skips: Sequence[Maps]) -> Maps:
        """The next finer map; it has the edges of the skipped ones."""
        doubled = self.up(features)
        if skips:
            # A map of odd edges was padded when it was halved.
            depth, height, width = skips[0].shape[2:]
            doubled = doubled[:, :, :depth, :height, :width]
        return self.block(torch.cat([doubled, *skips], dim=1))


def halved(features: Maps, times: int = 1) -> Maps:
    """Maximum over 2×2×2 elements, so many times; an odd last element stands alone."""
    for _ in range(times):
        features = F.max_pool3d(features, 2, ceil_mode=True)
    return features
