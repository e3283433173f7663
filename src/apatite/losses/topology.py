r"""How far the shape of what a network made is from that of what it was given: diagrams of both, and their distance.

$$L = \frac{1}{2 n} \sum_{i=0}^{2} W_2\big(D_i(I), D_i(I')\big)^2$$ per channel of a sample, then the mean; $I$ is the
given volume, $I'$ the made one, both averaged over small cubes first, and $n$ the number of points of $I$'s diagrams.

Which points belong together is decided by numbers (`topology.matching`). Every birth and death is the value of one
voxel, so with the pairs held fixed the loss is a sum of squares of voxels, and its gradient reaches at most two voxels
per point: $b' - b$ and $d' - d$ where points are paired, $\mp (d' - b') / 2$ where a point of $I'$ is alone.

Source: arXiv 2406.10519 for half of the sum of squared distances over dimensions 0 to 2, voxels as vertices.
Differs: its ground norm, direction, resolution, truncation and weight are not known here. L2, sub-level sets, cubes of
    2 voxels, a threshold and a cap were chosen; so was the division by $n$, without which the loss grows with the noise
    of a volume and with its size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.core.types import Image, Scalar
from apatite.losses.diagram_jobs import DiagramJobs, Volume, volumes_of
from apatite.losses.pooling import Pooled, pooled
from apatite.topology.diagrams import Diagram, DiagramConfig, diagrams
from apatite.topology.matching import match

VOXELS_PER_POINT: Final = 200
"""An input with fewer points than one in so many voxels, such as air, is divided as if it had them: what is made of it
has many, and undivided they would outweigh the rest of the batch. Tissue has one to six in a hundred."""


@dataclass(frozen=True, kw_only=True)
class TopologyLossConfig:
    """What is compared, and by how many threads.

    Attributes:
        pool: Edge in voxels of the cubes that are averaged first; 1 leaves the volume as it is.
        diagram: Direction, backend and what is left out; the threshold is in the volume's unit.
        per_point: Divide by the number of points of the given volume's diagrams, at least one per `VOXELS_PER_POINT`.
        workers: Threads; 0 for one per channel of each sample, at most the cores.
    """

    pool: int = 2
    diagram: DiagramConfig = field(default_factory=lambda: DiagramConfig(least_persistence=0.02, most_points=512))
    per_point: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise ConfigError(
                f"cubes of {self.pool} voxels", where="topology.pool", fix="take 1 for the volume as it is"
            )
        if self.workers < 0:
            raise ConfigError(f"{self.workers} workers", where="topology.workers", fix="take 0 for as many as cores")


class TopologyLoss:
    """The loss with its threads, and with the diagrams of given volumes that come again.

    Args:
        config: What is compared.
    """

    def __init__(self, config: TopologyLossConfig) -> None:
        self.config = config
        self.jobs = DiagramJobs(config.diagram, config.workers)

    def start(self, made: Image, given: Image) -> Callable[[], Scalar]:
        """Begin to work on volumes and return at once; what is returned waits and gives the loss.

        Args:
            made: `batch channels depth height width`, with or without a gradient; formats of 16 bits are worked on in
                fp32, fp64 stays.
            given: The same shape and unit; no gradient flows into it.

        Returns:
            A function without arguments that gives the loss, a scalar in the square of the volumes' unit, on `made`'s
            device: the mean over samples and channels. Its gradient holds the pairs fixed.

        Raises:
            ConfigError: `pool` does not divide every edge (`BAD_POOL`).
            DataError: from the returned function: a given volume is not finite (`NONFINITE`); names sample and channel.
                Where what was made is not finite, neither is the loss.
        """
        # On the processor, where equal sums are equal bits, and where the volumes go anyway.
        values = pooled(made, self.config.pool).cpu()
        with torch.no_grad():
            wanted = volumes_of(pooled(given, self.config.pool))
        wait = self.jobs.submit(
            {name: partial(self._squares, volume, wanted[name]) for name, volume in volumes_of(values).items()}
        )
        return lambda: _mean_of(values, wait()).to(made.device)

    def _squares(self, made: Volume, given: Volume) -> "_Squares":
        if not np.isfinite(made).all():
            # The network's doing: the loop stops at a loss that is no number, and names step and cases.
            return _Squares(
                voxels=np.empty(0, np.int64), targets=np.empty(0), alone=np.empty((0, 2), np.int64), rest=float("nan")
            )
        found, wanted = diagrams(made, self.config.diagram), self.jobs.remembered(given)
        parts = [_squares_of(one, other) for one, other in zip(found, wanted, strict=True)]
        points = sum(len(diagram.births) for diagram in wanted)
        return _Squares(
            voxels=np.concatenate([part.voxels for part in parts]),
            targets=np.concatenate([part.targets for part in parts]),
            alone=np.concatenate([part.alone for part in parts]),
            rest=sum(part.rest for part in parts),
            divisor=max(points, given.size // VOXELS_PER_POINT, 1) if self.config.per_point else 1,
        )


def topological_loss(made: Image, given: Image, config: TopologyLossConfig) -> Scalar:
    """`TopologyLoss` at once: nothing is remembered, and the caller waits."""
    return TopologyLoss(config).start(made, given)()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Squares:
    """Squared 2-Wasserstein distances as squares of voxels, summed over dimensions.

    Attributes:
        voxels: Of paired births and deaths, flat.
        targets: What each of them is paired with.
        alone: Birth and death voxel of each point that is alone.
        rest: What the given volume's points add that are alone.
        divisor: Of the sum.
    """

    voxels: Int64[np.ndarray, "ends"]
    targets: Float64[np.ndarray, "ends"]
    alone: Int64[np.ndarray, "alone 2"]
    rest: float
    divisor: int = 1


def _squares_of(found: Diagram, wanted: Diagram) -> _Squares:
    """The distance of two diagrams of one dimension."""
    ours, theirs = match(found, wanted).pairs.T
    voxels = [found.birth_voxels[ours], found.death_voxels[ours]]
    targets = [wanted.births[theirs], wanted.deaths[theirs]]
    if found.essential_voxel is not None and wanted.essential_birth is not None:
        voxels.append(np.array([found.essential_voxel]))
        targets.append(np.array([wanted.essential_birth]))
    alone = np.stack([found.birth_voxels, found.death_voxels], axis=1)
    return _Squares(
        voxels=np.concatenate(voxels),
        targets=np.concatenate(targets).astype(np.float64),
        alone=np.delete(alone, ours, axis=0),
        rest=float((np.delete(wanted.persistences, theirs) ** 2).sum() / 2),
    )


def _mean_of(values: Pooled, squares: list[_Squares]) -> Scalar:
    """Half of each volume's sum, divided and averaged, in double precision."""
    # In double precision before anything is gathered: its gradient is then added up in one order, whatever the threads.
    volumes = values.double().flatten(start_dim=2).flatten(end_dim=1)
    with torch.autocast("cpu", enabled=False):
        sums = [_sum_of(volume, each) / each.divisor for volume, each in zip(volumes, squares, strict=True)]
        return (torch.stack(sums).mean() / 2).to(values.dtype)


def _sum_of(volume: Float64[Tensor, "voxels"], squares: _Squares) -> Float64[Tensor, ""]:
    paired = volume[torch.from_numpy(squares.voxels)] - torch.from_numpy(squares.targets)
    births, deaths = volume[torch.from_numpy(squares.alone)].unbind(dim=1)
    return paired.square().sum() + (deaths - births).square().sum() / 2 + squares.rest
