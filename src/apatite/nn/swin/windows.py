"""Cutting a grid of tokens into windows and putting it together again, and which tokens of a window may see each other.

A grid that is no whole number of windows is padded at its end with zeros, which count as tokens; along an axis where
one window covers the grid it is as long as the grid and is not shifted. A shifted grid is rolled, so that tokens of
opposite faces come to lie in one window: they may not see each other.

Source: Liu et al. 2021 (arXiv 2103.14030), section 3.2, in three dimensions as MONAI's `SwinTransformer` (1.6.1).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Edges

Grid = Float[Tensor, "batch depth height width dim"]
"""Tokens at their places."""
Windowed = Float[Tensor, "windows inside dim"]
"""The tokens of each window, sample by sample; in one window the order is that of the grid."""

Sides = Int[Tensor, "kinds inside"]
"""For the windows of one sample, a number for each token; in one window, equal ones may see each other."""

KEPT = 32
"""Grids whose tables are remembered: some for each stage of a few sizes of image."""


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """How one grid is cut.

    Attributes:
        grid: Its edges.
        window: Edges of a window, none longer than the grid's.
        shift: By how much the grid is rolled back along each axis.
    """

    grid: Edges
    window: Edges
    shift: Edges

    @property
    def padded(self) -> Edges:
        """The grid in whole windows."""
        depth, height, width = (-(-edge // size) * size for edge, size in zip(self.grid, self.window, strict=True))
        return depth, height, width

    def cut(self, tokens: Grid) -> Windowed:
        """The windows of a batch of grids."""
        ends = [whole - edge for whole, edge in zip(self.padded, self.grid, strict=True)]
        if any(ends):
            tokens = F.pad(tokens, (0, 0, 0, ends[2], 0, ends[1], 0, ends[0]))
        if any(self.shift):
            tokens = tokens.roll([-step for step in self.shift], (1, 2, 3))
        d, h, w = self.window
        return rearrange(tokens, "b (z d) (y h) (x w) c -> (b z y x) (d h w) c", d=d, h=h, w=w)

    def join(self, windows: Windowed) -> Grid:
        """The inverse of `cut`."""
        (d, h, w), (depth, height, width) = self.window, self.padded
        z, y, x = depth // d, height // h, width // w
        tokens = rearrange(windows, "(b z y x) (d h w) c -> b (z d) (y h) (x w) c", z=z, y=y, x=x, d=d, h=h, w=w)
        if any(self.shift):
            tokens = tokens.roll(self.shift, (1, 2, 3))
        depth, height, width = self.grid
        return tokens[:, :depth, :height, :width]


def plan_windows(grid: Edges, window: Edges, *, shifted: bool) -> WindowPlan:
    """The plan of a block.

    Args:
        grid: Tokens along depth, height, width.
        window: Edges of a window where the grid has room for it.
        shifted: Whether the block shifts its windows, by half.
    """
    depth, height, width = (min(edge, size) for edge, size in zip(grid, window, strict=True))
    steps = (size // 2 if shifted and size < edge else 0 for edge, size in zip(grid, window, strict=True))
    z, y, x = steps
    return WindowPlan(grid=grid, window=(depth, height, width), shift=(z, y, x))


def sides_of(plan: WindowPlan, device: torch.device) -> Sides | None:
    """From which faces the tokens of each window come; `None` where nothing is shifted."""
    return _sides(plan, device) if any(plan.shift) else None


def are_apart(sides: Sides) -> Bool[Tensor, "kinds inside inside"]:
    """Which two tokens of a window come from opposite faces, and may not see each other."""
    return sides[:, :, None] != sides[:, None, :]


@lru_cache(maxsize=KEPT)
def _sides(plan: WindowPlan, device: torch.device) -> Sides:
    # A table made while nothing is learned must also serve where something is.
    with torch.inference_mode(mode=False), torch.no_grad():
        side = torch.zeros(plan.padded)
        for axis, (edge, size, step) in enumerate(zip(plan.padded, plan.window, plan.shift, strict=True)):
            place = torch.arange(edge)
            part = (place >= edge - size).float() + (place >= edge - step) if step else torch.zeros(edge)
            shape = [edge if other == axis else 1 for other in range(3)]
            side = 3 * side + part.view(shape)
        rolled = WindowPlan(grid=plan.padded, window=plan.window, shift=(0, 0, 0))
        return rolled.cut(side[None, ..., None])[..., 0].to(device, torch.int8)


@lru_cache(maxsize=KEPT)
def relative_places(
    whole: Edges, window: Edges, device: torch.device, *, counts_from_first: bool, along_ijk: bool = False
) -> Int[Tensor, "inside inside"]:
    """For each two tokens of a window, where their offset stands in a table of all offsets of a whole window.

    Args:
        whole: Edges of the window that the table is made for: (2 depth - 1) (2 height - 1) (2 width - 1) offsets.
        window: Edges of the window, none longer.
        device: Where it is needed.
        counts_from_first: `nn.swin.config.Convention`.
        along_ijk: The same.
    """
    with torch.inference_mode(mode=False):
        places = _first_places(whole, window, along_ijk) if counts_from_first else _places(window)
        offset = places[:, None] - places[None, :] + torch.tensor(whole) - 1
        row, plane = 2 * whole[2] - 1, (2 * whole[1] - 1) * (2 * whole[2] - 1)
        return (offset[..., 0] * plane + offset[..., 1] * row + offset[..., 2]).to(device)


def _places(window: Edges) -> Int[Tensor, "inside axes"]:
    return torch.cartesian_prod(*map(torch.arange, window))


def _first_places(whole: Edges, window: Edges, along_ijk: bool) -> Int[Tensor, "inside axes"]:
    """Places of the first tokens of a whole window, in the order of as many of a smaller one."""
    depth, height, width = window
    inside = depth * height * width
    if not along_ijk:
        return _places(whole)[:inside]
    # Both orders run along width first; the smaller window's is put back into ours.
    first = _places((whole[2], whole[1], whole[0]))[:inside].flip(-1)
    return first[torch.arange(inside).view(width, height, depth).permute(2, 1, 0).flatten()]
