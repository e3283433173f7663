"""Soft Dice and cross-entropy for overlapping labels, some of which were not annotated in some cases.

Every label has its own logit; background is where all are low. So a label that nobody looked for in a case is left
out of the loss for that case, exactly, without a guess about what its voxels are.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Image, Scalar

IsAnnotated = Bool[Tensor, "batch labels"]
"""True where a label was looked for in a case. An organ that is not annotated is not an absent organ."""

Sum = Callable[[Tensor], Tensor]
"""Adds up over the processes that share a batch, with its gradient."""

SMOOTH = 1e-5


def as_it_is(value: Tensor) -> Tensor:
    """The sum over one process."""
    return value


def soft_dice_loss(logits: Image, target: Image, is_annotated: IsAnnotated, add_up: Sum = as_it_is) -> Scalar:
    r"""One minus the soft Dice over the whole batch, averaged over labels.

    $$L = 1 - \frac{2\sum p t + s}{\sum p + \sum t + s}$$ per label, $p = \sigma(z)$, $s = 10^{-5}$, sums over the
    voxels of all samples in which the label was looked for.

    Args:
        logits: `batch labels depth height width`.
        target: The same shape: the fraction of each voxel that carries the label.
        is_annotated: Labels that count, per sample. A label that counts nowhere in the batch adds nothing.
        add_up: Over the processes that share the batch: the loss is then that of the whole batch.

    Source: Milletari et al. 2016 (arXiv 1606.04797) with sums instead of squares; over the batch as nnU-Net does for
    small objects. No unit.
    Differs: a Dice per sample is 1 for every calcium-free case, whatever is predicted a little above nothing; with a
    handful of positive voxels in a few cases its mean did not learn at all here (docs/LOG.md).
    """
    weight = is_annotated.to(target.dtype)[:, :, None, None, None]
    probability, target = logits.float().sigmoid() * weight, target * weight
    intersection = (probability * target).sum(dim=(0, 2, 3, 4))
    total = probability.sum(dim=(0, 2, 3, 4)) + target.sum(dim=(0, 2, 3, 4))
    num_annotated = is_annotated.sum(dim=0).to(total.dtype)
    intersection, total, num_annotated = add_up(torch.stack([intersection, total, num_annotated])).unbind()
    loss = 1 - (2 * intersection + SMOOTH) / (total + SMOOTH)
    is_counted = (num_annotated > 0).to(loss.dtype)
    return (loss * is_counted).sum() / is_counted.sum().clamp(min=1)


def cross_entropy_loss(logits: Image, target: Image, is_annotated: IsAnnotated, add_up: Sum = as_it_is) -> Scalar:
    r"""Binary cross-entropy per voxel and label, averaged over annotated labels, in nats.

    $$L = -t \log \sigma(z) - (1 - t) \log(1 - \sigma(z))$$
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(dim=(2, 3, 4))
    weight = is_annotated.to(loss.dtype)
    total, count = add_up(torch.stack([(loss * weight).sum(), weight.sum()])).unbind()
    # Zero, with a gradient of zero, where nothing was annotated.
    return total / count.clamp(min=1)
