"""Several views of one crop: where smaller crops are cut out of it, and which of their voxels they share.

Source: SMIT's released code: two crops of 96 voxels at random places in one of 128, so that they share at least
(64/96)^3 of their volume.
Differs: local crops are not enlarged to a common size as in DINO (arXiv 2104.14294): a voxel keeps its size in mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.types import Edges, Image


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """Which views are cut out of one crop, the parent.

    Attributes:
        count: Global views.
        local_count: Smaller views that only the student sees.
        local_share: Edge of a local view over that of a global one, rounded to whole cells.
        snaps: Global views lie whole cells apart, so that cells which two of them share show the same voxels. There are
            fewer places then: two views of 6 cells out of 8 along each axis are the same view once in 27 times.
        turns: Each global view is turned by 0, 90, 180 or 270 degrees in the axial plane.
        parent_ratio: Edge of the parent over that of a global view, rounded up to whole cells.
    """

    count: int = 1
    local_count: int = 0
    local_share: float = 0.5
    snaps: bool = False
    turns: bool = False
    parent_ratio: float = 4 / 3

    def __post_init__(self) -> None:
        if self.count < 1 or self.local_count < 0:
            raise ConfigError(f"{self.count} global and {self.local_count} local views", where="views")
        if not 0 < self.local_share <= 1 or not 1 <= self.parent_ratio < float("inf"):
            raise ConfigError(
                f"local views of {self.local_share}, parents of {self.parent_ratio} times a view",
                where="views",
                fix="above 0 to 1 and at least 1",
            )
        if self.snaps and self.turns:
            raise ConfigError("cells of turned views show no common voxels", where="views.snaps", fix="choose one")

    @property
    def is_whole(self) -> bool:
        """Whether the one view is the crop itself, as it is."""
        return self.count == 1 and not self.local_count and not self.turns

    @property
    def summary(self) -> str:
        """In a few words; none where a crop is shown as it is."""
        parts = [f"{self.count} views"] if self.count > 1 else []
        parts += [f"{self.local_count} local views"] if self.local_count else []
        parts += ["whole cells apart"] if self.snaps else []
        parts += ["turned"] if self.turns else []
        return ", ".join(parts)

    def parent_of(self, crop: Edges, cell: Edges) -> Edges:
        """Edges of the crop that the views are cut from: the view itself where there is only one."""
        if self.count == 1 and not self.local_count:
            return crop
        depth, height, width = (
            ceil(edge * self.parent_ratio / size - 1e-9) * size for edge, size in zip(crop, cell, strict=True)
        )
        return depth, height, width

    def local_of(self, crop: Edges, cell: Edges) -> Edges:
        """Edges of a local view: whole cells, at least one."""
        depth, height, width = (
            max(1, int(edge * self.local_share / size + 0.5)) * size for edge, size in zip(crop, cell, strict=True)
        )
        return depth, height, width

    def refuse(self, crop: Edges) -> None:
        """Refuse views that cannot be turned.

        Raises:
            ConfigError: they should be, but their height and width differ.
        """
        if self.turns and crop[1] != crop[2]:
            raise ConfigError(
                f"a view of {crop} cannot be turned by 90 degrees in the axial plane",
                where="views.turns",
                fix="use equal edges along height and width",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Where views lie in their parents, on the host.

    Attributes:
        starts: First voxel of each global view, along depth, height, width.
        local_starts: The same of each local view.
        turns: Quarter turns of each global view; `None` where none is turned.
    """

    starts: Int64[Tensor, "views batch 3"]
    local_starts: Int64[Tensor, "locals batch 3"]
    turns: Int64[Tensor, "views batch"] | None


def place_views(  # noqa: PLR0913 - four edges that are often equal are safer by name
    seed: int,
    step: int,
    sample_ids: Sequence[int],
    *,
    parent: Edges,
    crop: Edges,
    local: Edges,
    cell: Edges,
    plan: ViewPlan,
) -> Placed:
    """Draw where the views of a batch lie, uniformly over all places in the parent.

    Args:
        seed: Of the run.
        step: Of the run.
        sample_ids: Each sample's place in the step's batch.
        parent: Edges of what views are cut from.
        crop: Edges of a global view.
        local: Edges of a local view.
        cell: Edges of a cell.
        plan: Which views.

    Raises:
        ConfigError: a view is larger than the parent.
    """
    step_size = np.array(cell if plan.snaps else (1, 1, 1))
    draws = [
        [_place(generator(seed, "view", step, sample, view), parent, crop, step_size) for sample in sample_ids]
        for view in range(plan.count)
    ]
    local_draws = [
        [_place(generator(seed, "local", step, sample, view), parent, local, np.ones(3, int)) for sample in sample_ids]
        for view in range(plan.local_count)
    ]
    drawn = np.array(draws, np.int64).reshape(plan.count, len(sample_ids), 4)
    local_drawn = np.array(local_draws, np.int64).reshape(plan.local_count, len(sample_ids), 4)
    return Placed(
        starts=torch.from_numpy(drawn[..., :3].copy()),
        local_starts=torch.from_numpy(local_drawn[..., :3].copy()),
        turns=torch.from_numpy(drawn[..., 3].copy()) if plan.turns else None,
    )


def _place(source: np.random.Generator, parent: Edges, view: Edges, step_size: np.ndarray) -> Int64[np.ndarray, "4"]:
    """A start along three axes, and a number of quarter turns."""
    room = np.array(parent) - np.array(view)
    if room.min() < 0:
        raise ConfigError(f"a view of {view} does not fit into {parent}", where="views", fix="use a larger parent")
    start = source.integers(0, room // step_size + 1) * step_size
    return np.append(start, source.integers(4))


def cut_views(
    images: Image, starts: Int64[Tensor, "views batch 3"], edges: Edges
) -> Float[Tensor, "views*batch channels _ _ _"]:
    """Cut views out of their parents.

    Args:
        images: The parents, `batch channels depth height width`.
        starts: First voxel of each view, on the host.
        edges: Of a view.

    Returns:
        View by view: all samples of view 0, then those of view 1, and so on.
    """
    room = torch.tensor(images.shape[2:]) - torch.tensor(edges)
    assert bool(((starts >= 0) & (starts <= room)).all()), "a view reaches beyond its parent"
    views, batch = starts.shape[:2]
    result = images.new_empty((views * batch, images.shape[1], *edges))
    for row, (z, y, x) in enumerate(starts.reshape(-1, 3).tolist()):
        result[row] = images[row % batch, :, z : z + edges[0], y : y + edges[1], x : x + edges[2]]
    return result


def turn(images: Image, turns: Int64[Tensor, "batch"]) -> Image:
    """Turn each image by so many quarter turns in the axial plane, from height towards width.

    Args:
        images: Of equal edges along height and width.
        turns: On the host.

    Raises:
        ConfigError: height and width differ.
    """
    if images.shape[3] != images.shape[4]:
        raise ConfigError(
            f"an image of {tuple(images.shape[2:])} cannot be turned in the axial plane", where="views.turns"
        )
    result = torch.empty_like(images)
    for image, target, quarter in zip(images, result, turns.tolist(), strict=True):
        target.copy_(image.rot90(quarter, dims=(-2, -1)))
    return result


def twins(
    starts: Int64[Tensor, "2 batch 3"], cells: Edges, cell: Edges
) -> tuple[Int64[Tensor, "2*batch cells"], Bool[Tensor, "2*batch cells"]]:
    """For each cell of each view the cell of the sample's other view that shows exactly the same voxels.

    Args:
        starts: First voxel of each view in the parent.
        cells: Of a view, along depth, height, width.
        cell: Edges of a cell.

    Returns:
        View by view: the twin's place among the cells of the other view (0 where there is none), and whether there is
        one. Views that do not lie whole cells apart have none.
    """
    axes = (torch.arange(edge, device=starts.device) for edge in cells)
    places = torch.cartesian_prod(*axes)
    size, grid = (torch.tensor(edges, device=starts.device) for edges in (cell, cells))
    apart = torch.cat([starts[0] - starts[1], starts[1] - starts[0]])
    there = places + torch.div(apart, size, rounding_mode="floor")[:, None]
    is_exact = (apart % size == 0).all(dim=1, keepdim=True)
    has_twin = ((there >= 0) & (there < grid)).all(dim=2) & is_exact
    strides = torch.tensor([cells[1] * cells[2], cells[2], 1], device=starts.device)
    return (there * strides).sum(dim=2) * has_twin, has_twin
