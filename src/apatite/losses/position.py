"""How far the believed places of crops are from where they were cut.

Source: nine key points of a crop, its centre and corners, after Gu et al. 2024 (arXiv 2406.10519).
Differs: their loss is known by name alone; here it is the mean squared error over the 27 fractions.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from apatite.core.types import Scalar

Points = Float[Tensor, "batch 9 3"]
"""Nine points per crop, as fractions of its volume along depth, height, width."""


def position_loss(found: Points, wanted: Points) -> Scalar:
    r"""Mean over samples, points and axes of $(q - q^*)^2$.

    $$L = \frac{1}{27 B} \sum_b \sum_{k=1}^{9} \sum_{a=1}^{3} (q_{bka} - q^*_{bka})^2$$

    No unit: fractions of the volume, squared, so that along each axis every volume counts alike, whatever its size.
    Computed in fp32 whatever comes in; symmetric, with a gradient to whichever argument carries one.
    """
    return (found.float() - wanted.float()).square().mean()


def point_error_mm(found: Points, wanted: Points, extent_mm: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch"]:
    r"""For each crop the mean distance between the nine points and where they are, in mm of its volume.

    $$e_b = \frac{1}{9} \sum_{k=1}^{9} \lVert s_b \odot (q_{bk} - q^*_{bk}) \rVert_2$$ with the volume's extents
    $s_b$ in mm.

    Args:
        found: Points.
        wanted: Where they are.
        extent_mm: Of the volume along depth, height, width.
    """
    apart_mm = (found.float() - wanted.float()) * extent_mm.float()[:, None]
    return torch.linalg.vector_norm(apart_mm, dim=-1).mean(dim=-1)
