"""The topological loss as one would write it with GUDHI and POT, or with cripser and its own distance.

Both get what ours gets: the given volume's diagrams ready-made, a made volume that carries a gradient, the same points
left out. Each step makes one volume's diagrams, their distances in three dimensions and the gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Step = Callable[[], float]
Points = list[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Which points of a diagram count: those above a persistence, and so many of the most persistent."""

    least: float = 0.0
    most: int | None = None

    def places(self, births: np.ndarray, deaths: np.ndarray) -> np.ndarray:
        lives = deaths - births
        order = np.argsort(-lives, kind="stable")[: self.most]
        return order[(lives[order] >= self.least) & (lives[order] > 0)]


def gudhi_with_pot(made: Tensor, given: Tensor, kept: Kept) -> Step:
    """`CubicalComplex` and `gudhi.wasserstein` with its matching; values gathered at the voxels that GUDHI names."""
    from gudhi.wasserstein import wasserstein_distance

    wanted = [points.detach().numpy() for points in _gudhi_points(given[0, 0], kept)]

    def step() -> float:
        made.grad = None
        total = torch.zeros((), dtype=torch.float64)
        for points, others in zip(_gudhi_points(made[0, 0], kept), wanted, strict=True):
            _, matching = wasserstein_distance(
                points.detach().numpy(), others, matching=True, order=2, internal_p=2, keep_essential_parts=False
            )
            total = total + _squares(points, torch.from_numpy(others), torch.from_numpy(matching.reshape(-1, 2)))
        (total / 2).backward()
        return float(total.detach() / 2)

    return step


def cripser_with_its_own(made: Tensor, given: Tensor, kept: Kept) -> Step:
    """`compute_ph_torch` and `cripser.distance.wasserstein_distance`, with as many iterations as GUDHI gives POT."""
    from cripser import compute_ph_torch
    from cripser.distance import wasserstein_distance

    def diagrams_of(volume: Tensor) -> list[Tensor]:
        rows = compute_ph_torch(volume.double(), maxdim=2)
        found = []
        for dimension in range(3):
            points = rows[rows[:, 0] == dimension][:, 1:3]
            points = points[points[:, 1] <= volume.max()]
            values = points.detach().numpy()
            found.append(points[torch.from_numpy(kept.places(values[:, 0], values[:, 1]))])
        return found

    with torch.no_grad():
        wanted = diagrams_of(given[0, 0])

    def step() -> float:
        made.grad = None
        total = torch.zeros((), dtype=torch.float64)
        for points, others in zip(diagrams_of(made[0, 0]), wanted, strict=True):
            total = total + wasserstein_distance(points, others, num_iter_max=2_000_000, return_pth_power=True)
        (total / 2).backward()
        return float(total.detach() / 2)

    return step


def _gudhi_points(volume: Tensor, kept: Kept) -> list[Tensor]:
    """Births and deaths of three dimensions, gathered from the volume. GUDHI counts voxels in Fortran order."""
    from gudhi import CubicalComplex

    cells = CubicalComplex(vertices=volume.detach().numpy().astype(np.float64))
    cells.compute_persistence()
    regular, _ = cells.vertices_of_persistence_pairs()
    flat = volume.permute(2, 1, 0).reshape(-1)
    found = []
    for dimension in range(3):
        pairs = np.asarray(regular[dimension] if dimension < len(regular) else [], dtype=np.int64).reshape(-1, 2)
        points = flat[torch.from_numpy(pairs)].double()
        values = points.detach().numpy()
        found.append(points[torch.from_numpy(kept.places(values[:, 0], values[:, 1]))])
    return found


def _squares(points: Tensor, others: Tensor, matching: Tensor) -> Tensor:
    ours, theirs = matching.unbind(dim=1)
    is_pair = (ours >= 0) & (theirs >= 0)
    paired = (points[ours[is_pair]] - others[theirs[is_pair]]).square().sum()
    alone = [points[ours[(ours >= 0) & ~is_pair]], others[theirs[(theirs >= 0) & ~is_pair]]]
    return paired + sum((each[:, 1] - each[:, 0]).square().sum() / 2 for each in alone)
