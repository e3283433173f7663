"""Soft Dice and cross-entropy for overlapping labels, some of which were not annotated in some cases.

Every label has its own logit; background is where all are low. So a label that nobody looked for in a case is left
out of the loss for that case, exactly, without a guess about what its voxels are.
"""

from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Image, Scalar

IsAnnotated = Bool[Tensor, "batch labels"]
"""True where a label was looked for in a case. An organ that is not annotated is not an absent organ."""

SMOOTH = 1e-5


def soft_dice_loss(logits: Image, target: Image, is_annotated: IsAnnotated) -> Scalar:
    r"""One minus the soft Dice over the whole batch, averaged over labels.

    $$L = 1 - \frac{2\sum p t + s}{\sum p + \sum t + s}$$ per label, $p = \sigma(z)$, $s = 10^{-5}$, sums over the
    voxels of all samples in which the label was looked for.

    Args:
        logits: `batch labels depth height width`.
        target: The same shape: the fraction of each voxel that carries the label.
        is_annotated: Labels that count, per sample. A label that counts nowhere in the batch adds nothing.

    Source: Milletari et al. 2016 (arXiv 1606.04797) with sums instead of squares; over the batch as nnU-Net does for
    small objects. No unit.
    Differs: a Dice per sample is 1 for every calcium-free case, whatever is predicted a little above nothing; with a
    handful of positive voxels in a few cases its mean did not learn at all here (docs/LOG.md).
    """
    weight = is_annotated.to(target.dtype)[:, :, None, None, None]
    probability, target = logits.float().sigmoid() * weight, target * weight
    intersection = (probability * target).sum(dim=(0, 2, 3, 4))
    total = probability.sum(dim=(0, 2, 3, 4)) + target.sum(dim=(0, 2, 3, 4))
    loss = 1 - (2 * intersection + SMOOTH) / (total + SMOOTH)
    is_counted = is_annotated.any(dim=0).to(loss.dtype)
    return (loss * is_counted).sum() / is_counted.sum().clamp(min=1)


def cross_entropy_loss(logits: Image, target: Image, is_annotated: IsAnnotated) -> Scalar:
    r"""Binary cross-entropy per voxel and label, averaged over annotated labels, in nats.

    $$L = -t \log \sigma(z) - (1 - t) \log(1 - \sigma(z))$$
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(dim=(2, 3, 4))
    return _annotated_mean(loss, is_annotated)


def _annotated_mean(per_label: Tensor, is_annotated: IsAnnotated) -> Scalar:
    """Mean over what was annotated; zero (with a gradient of zero) where nothing was."""
    weight = is_annotated.to(per_label.dtype)
    return (per_label * weight).sum() / weight.sum().clamp(min=1)
