r"""Surrogate of the topological loss that knows places: the voxels that decide the input's topology keep their values.

Every point of the input's diagrams is born at one voxel and dies at another. What was made is asked for the input's
values at these voxels, the more the more persistent the point is; it needs no diagrams of its own and no matching, so
the diagrams of an input that comes again are computed once.

Source: birth and death voxels as where the gradient of a diagram goes; no paper has this loss, as far as is known here.
Differs: from the topological loss, W2 is blind to where things are and this is not, but a feature that is too many
    costs nothing here unless it covers a critical voxel.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from apatite.core.errors import ConfigError
from apatite.core.types import Image, Scalar
from apatite.losses.diagram_jobs import DiagramJobs, volumes_of
from apatite.losses.pooling import pooled
from apatite.topology.diagrams import DiagramConfig, Diagrams


@dataclass(frozen=True, kw_only=True)
class CriticalVoxelLossConfig:
    """Which voxels of the input are critical.

    Attributes:
        pool: Input and what was made are averaged over cubes of so many voxels first.
        diagram: Of the input's diagrams. The component that never dies has no persistence and takes no part.
        workers: Threads; 0 for one per volume, at most the cores.
    """

    pool: int = 2
    diagram: DiagramConfig = field(default_factory=lambda: DiagramConfig(least_persistence=0.02, most_points=512))
    workers: int = 0

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise ConfigError(
                f"cubes of {self.pool} voxels", where="critical.pool", fix="take 1 for the volume as it is"
            )
        if self.workers < 0:
            raise ConfigError(f"{self.workers} workers", where="critical.workers", fix="take 0 for as many as cores")


class CriticalVoxelLoss:
    r"""The squared error at the birth and death voxels of the input's diagrams, weighted by persistence.

    $$L = \frac{\sum_p |d_p - b_p|\; \tfrac{1}{2}\big[(I'(x_p) - I(x_p))^2 + (I'(y_p) - I(y_p))^2\big]}
    {\sum_p |d_p - b_p|}$$

    over all points p of dimensions 0, 1 and 2, born at voxel $x_p$ with value $b_p$, dying at $y_p$ with $d_p$; I the
    input, I' what was made, both pooled. The mean over samples and channels; a volume without points (a constant one)
    counts as 0. The unit is the square of the input's.

    Args:
        config: Pooling, diagrams, threads.
    """

    def __init__(self, config: CriticalVoxelLossConfig) -> None:
        self.config = config
        self.jobs = DiagramJobs(config.diagram, config.workers)

    def start(self, made: Image, given: Image) -> Callable[[], Scalar]:
        """Begin on the diagrams of the input and return at once.

        Args:
            made: `batch channels depth height width` in [0, 1]; the gradient goes here.
            given: The input, the same shape and unit.

        Returns:
            A function without arguments that waits for the diagrams and gives the loss.

        Raises:
            ConfigError: cubes of `pool` do not fill the volume (`BAD_POOL`).
            DataError: from the returned function: an input is not finite (`NONFINITE`); sample and channel are named.
        """
        found, wanted = pooled(made, self.config.pool), pooled(given.detach(), self.config.pool)
        volumes = volumes_of(wanted)
        weights = self.jobs.submit({name: lambda v=volume: self._weights(v) for name, volume in volumes.items()})

        def finish() -> Scalar:
            weight = torch.from_numpy(np.stack(weights())).reshape(wanted.shape).to(found)
            return (weight * (found - wanted).square()).sum() / len(volumes)

        return finish

    def _weights(self, volume: Float[np.ndarray, "depth height width"]) -> Float[np.ndarray, "depth height width"]:
        return critical_weights(volume.shape, self.jobs.remembered(volume))


def critical_weights(shape: tuple[int, ...], found: Diagrams) -> Float[np.ndarray, "depth height width"]:
    """What each voxel of a volume weighs: half the persistence of the points that are born or die there, 1 in all.

    Args:
        shape: `depth height width`.
        found: Its diagrams; without any point all weights are 0.
    """
    voxels = np.concatenate([np.concatenate([d.birth_voxels, d.death_voxels]) for d in found])
    persistences = np.concatenate([np.concatenate([d.persistences, d.persistences]) for d in found])
    # Of no voxels it counts in integers.
    weights = np.bincount(voxels, weights=persistences, minlength=int(np.prod(shape))).astype(np.float64)
    total = weights.sum()
    return (weights / total if total > 0 else weights).reshape(shape)


def critical_voxel_loss(made: Image, given: Image, config: CriticalVoxelLossConfig) -> Scalar:
    """The loss of `CriticalVoxelLoss` at once; nothing is remembered."""
    return CriticalVoxelLoss(config).start(made, given)()
