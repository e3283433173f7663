"""Points on a sphere keep away from their nearest neighbour, so that features do not crowd together.

Source: Sablayrolles et al. 2019 (arXiv 1806.03198), Eq. 3; as DINOv2 uses it (Oquab et al. 2023, arXiv 2304.07193).
Differs: released DINOv2 adds its epsilon to each coordinate as well, so that equal rows are pushed along one diagonal
    with a huge gradient; here they are pushed nowhere.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Scalar
from apatite.losses.logits import exact

EPSILON = 1e-8
"""Keeps the logarithm finite where two rows are equal."""


def koleo_loss(features: Float[Tensor, "rows dim"]) -> Scalar:
    r"""Minus the mean logarithm of the distance to the nearest neighbour.

    $$L = -\frac{1}{n} \sum_i \log\big(\min_{j \ne i} \lVert x_i - x_j \rVert_2 + 10^{-8}\big)$$ with the rows $x$
    divided by their lengths first. No unit; between $-\log 2$ (two opposite points) and $\log 10^8$ (equal points).

    Args:
        features: One row per sample, of any length. Take the views one by one: two views of one sample would be each
            other's neighbour. Fewer than two rows have no neighbours: 0, with a gradient of zeros.

    Computed in fp32 whatever comes in, fp64 stays. Which row is nearest carries no gradient, how far it is does.
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = exact(features)
        if len(rows) < 2:
            return rows.sum() * 0
        points = F.normalize(rows, dim=-1)
        with torch.no_grad():
            nearest = (points @ points.t()).fill_diagonal_(-torch.inf).argmax(dim=1)
        # Indexing would add its gradient up in an order that threads choose.
        apart = torch.linalg.vector_norm(points - F.embedding(nearest, points), dim=1)
        return -(apart + EPSILON).log().mean()
