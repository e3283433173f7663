"""Which of the other samples' views is mine? The contrastive loss of MoCo v3.

With several processes the other samples are those of all of them. Each process computes the loss of the whole batch,
so a run's numbers are those of one process with the same batch.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.share import WHOLE, Share
from apatite.core.types import Scalar
from apatite.losses.logits import exact
from apatite.losses.overlap import Sum, as_it_is

Projections = Float[Tensor, "views batch dim"]
MOST_ALIKE = 1e-12
"""Shortest length that a row is divided by."""


def contrastive_loss(
    queries: Projections, keys: Projections, temperature: float, share: Share = WHOLE, add_up: Sum = as_it_is
) -> Scalar:
    r"""InfoNCE of every view's queries among the keys of every other view, times 2τ, in nats.

    $$L = \frac{2}{V(V-1)} \sum_{u \ne v} 2\tau \cdot \frac{1}{B} \sum_b
    -\log \frac{\exp(q_{ub} \cdot k_{vb} / \tau)}{\sum_c \exp(q_{ub} \cdot k_{vc} / \tau)}$$
    with rows of unit length; for two views the sum of both directions. At chance it is $4 \tau \ln B$.

    Args:
        queries: The student's predictions, this process's samples of each view.
        keys: The teacher's projections of the same. The negatives of a sample are the other samples in the other view;
            the keys of its own view are no negatives.
        temperature: τ.
        share: Which part of the batch this process holds.
        add_up: Over the processes: values and gradients are then those of the whole batch in each of them.

    Raises:
        ConfigError: there is but one view, or nothing to contrast with.

    Source: Chen et al. 2021 (arXiv 2104.02057), algorithm 1 and section 3; 2τ as in the public code.
    Differs: in fp32 whatever comes in, fp64 stays. With several processes the public code averages over each one's own
    queries; here each computes all of them, which gives the same number.
    """
    views, batch = queries.shape[0], queries.shape[1] * share.of
    if views < 2 or batch < 2:
        raise ConfigError(
            f"{views} views of {batch} samples leave nothing to compare a sample with",
            where="contrast",
            fix="use two views and a batch of at least 2; the more samples, the more negatives",
        )
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = (
            F.normalize(gathered(exact(rows), share, add_up), dim=-1, eps=MOST_ALIKE) for rows in (queries, keys)
        )
        own = torch.arange(batch, device=queries.device)
        pairs = [
            F.cross_entropy(queries[u] @ keys[v].T / temperature, own)
            for u in range(views)
            for v in range(views)
            if u != v
        ]
    return 2 * (2 * temperature) * torch.stack(pairs).mean()


def gathered(rows: Projections, share: Share, add_up: Sum) -> Float[Tensor, "views whole dim"]:
    """The rows of all processes in the order of their shares, with their gradient: a sum where each fills its own."""
    before, after = share.index * rows.shape[1], (share.of - 1 - share.index) * rows.shape[1]
    return add_up(F.pad(rows, (0, 0, before, after)))
