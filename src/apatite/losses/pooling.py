"""Means over cubes of voxels: the coarser volume whose shape a loss looks at."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.types import Image
from apatite.losses.logits import exact

Pooled = Float[Tensor, "batch channels _ _ _"]


def pooled(image: Image, pool: int) -> Pooled:
    """The mean over cubes of `pool` voxels, where the image is, in fp32 (fp64 stays), with its gradient.

    Args:
        image: `batch channels depth height width`.
        pool: Edge of a cube in voxels; 1 leaves the image as it is.

    Raises:
        ConfigError: `pool` is no edge, or does not divide every edge (`BAD_POOL`).
    """
    refuse_pool(image.shape[2:], pool)
    values = exact(image)
    return F.avg_pool3d(values, pool) if pool > 1 else values


def refuse_pool(edges: Sequence[int], pool: int) -> None:
    """Refuse cubes that do not fill a volume.

    Raises:
        ConfigError: `pool` is no edge, or does not divide every edge (`BAD_POOL`).
    """
    if pool < 1 or any(edge % pool for edge in edges):
        raise ConfigError(
            f"cubes of {pool} voxels do not fill a volume of {'×'.join(str(edge) for edge in edges)}",
            where="pool",
            fix="take a divisor of every edge; 1 always is",
            code="BAD_POOL",
        )
