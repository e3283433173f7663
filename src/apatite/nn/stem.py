"""From the voxels of a patch to one token: a linear map, or a few convolutions that never leave the patch.

A convolutional stem that runs over the whole volume would carry hidden voxels into visible tokens, and a masked
autoencoder would learn to read the leak. Here every patch is its own small volume: it is padded with zeros at its own
faces and halved, axis by axis, until one position is left.

Source: Xiao et al. 2021 (arXiv 2106.14881): a few stride-2 3×3 convolutions instead of one patch-sized one.
Differs: three dimensions; no neighbours across a patch's faces; no batch norm, whose statistics would mix patches;
GELU as in the blocks.
"""

from collections.abc import Callable
from typing import Final, Literal

from einops import rearrange
from torch import nn

from apatite.core.types import Edges, Rows

StemName = Literal["linear", "conv"]
NARROWEST = 8
"""Fewest channels of a convolution."""


class ConvStem(nn.Module):
    """Convolutions inside each patch, the width doubled with every halving.

    Args:
        patch: Edges of a patch in voxels, any.
        channels: Input channels, one per window.
        dim: Width of a token.
    """

    def __init__(self, patch: Edges, channels: int, dim: int) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        plan = halving_plan(patch)
        self.stages = nn.ModuleList()
        incoming = channels
        for place, strides in enumerate(plan):
            width = max(NARROWEST, dim // 2 ** (len(plan) - 1 - place))
            kernel = tuple(3 if stride == 2 else 1 for stride in strides)
            padding = tuple(size // 2 for size in kernel)
            self.stages.append(nn.Sequential(nn.Conv3d(incoming, width, kernel, strides, padding), nn.GELU()))  # type: ignore[arg-type]
            incoming = width
        self.project = nn.Linear(incoming, dim)

    def forward(self, rows: Rows) -> Rows:
        """`batch tokens (patch voxels x channels)`, in the order of `patchify`, to `batch tokens dim`."""
        depth, height, width = self.patch
        volumes = rearrange(rows, "b n (d h w c) -> (b n) c d h w", d=depth, h=height, w=width, c=self.channels)
        for stage in self.stages:
            volumes = stage(volumes)
        return self.project(rearrange(volumes, "(b n) c 1 1 1 -> b n c", b=len(rows)))


def halving_plan(patch: Edges) -> list[Edges]:
    """Per stage, the stride along depth, height, width, until one position is left; odd edges round up.

    >>> halving_plan((2, 4, 4))
    [(2, 2, 2), (1, 2, 2)]
    """
    plan = []
    while max(patch) > 1:
        strides = tuple(2 if edge > 1 else 1 for edge in patch)
        patch = tuple(-(-edge // 2) for edge in patch)  # type: ignore[assignment]
        plan.append(strides)
    return plan  # type: ignore[return-value]


def build_linear(patch: Edges, channels: int, dim: int) -> nn.Module:
    """One linear map of all voxels, as the plain vision transformer."""
    return nn.Linear(patch[0] * patch[1] * patch[2] * channels, dim)


def build_conv(patch: Edges, channels: int, dim: int) -> nn.Module:
    """Convolutions inside each patch."""
    return ConvStem(patch, channels, dim)


STEMS: Final[dict[StemName, Callable[[Edges, int, int], nn.Module]]] = {"linear": build_linear, "conv": build_conv}
