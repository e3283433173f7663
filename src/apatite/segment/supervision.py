"""Deep supervision: what each of a network's outputs should say, and how much it counts.

The target at an output is the mean of the targets of the voxels below it. Targets are the fraction of a voxel that
carries a label, so a coarser one is exact: the fraction of a larger voxel.

Source: weights halved from one output to the next coarser one, summing to 1, as nnU-Net (Isensee et al. 2021) and the
public code of UNETR++ (Shaker et al. 2024, arXiv 2212.04497) have them: 4/7, 2/7, 1/7.
Differs: means of fractions; there, labels of the nearest voxel.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Edges, Image, Scalar
from apatite.losses.overlap import IsAnnotated, Sum, as_it_is, cross_entropy_loss, soft_dice_loss
from apatite.nn.decoders.decoder import Maps

Supervised = tuple[tuple[Maps, float], ...]
"""Logits `batch labels depth height width` of each output and its weight, the finest first; the weights sum to 1."""


def output_weights(count: int) -> tuple[float, ...]:
    """Of so many outputs, the finest first.

    >>> output_weights(1)
    (1.0,)
    """
    whole = 2**count - 1
    return tuple(2 ** (count - 1 - place) / whole for place in range(count))


def coarser_target(targets: Image, edges: Edges) -> Maps:
    """The mean of the targets below each voxel of a coarser grid, whose edges must divide those of the targets."""
    depth, height, width = (have // want for have, want in zip(targets.shape[2:], edges, strict=True))
    assert tuple(targets.shape[2:]) == (edges[0] * depth, edges[1] * height, edges[2] * width), "grids are whole"
    return targets if (depth, height, width) == (1, 1, 1) else F.avg_pool3d(targets, (depth, height, width))


def supervised_losses(
    outputs: Supervised, targets: Image, is_annotated: IsAnnotated, add_up: Sum = as_it_is
) -> dict[str, Scalar]:
    """Dice and cross-entropy, each summed over the outputs by their weights.

    Args:
        outputs: Logits and weight of each.
        targets: `batch labels depth height width` at full resolution: fractions.
        is_annotated: Labels that count, per sample.
        add_up: Over the processes that share the batch.
    """
    dice: list[Tensor] = []
    entropy: list[Tensor] = []
    for logits, weight in outputs:
        depth, height, width = logits.shape[2:]
        target = coarser_target(targets, (depth, height, width))
        dice.append(weight * soft_dice_loss(logits, target, is_annotated, add_up))
        entropy.append(weight * cross_entropy_loss(logits, target, is_annotated, add_up))
    return {"dice_loss": _summed(dice), "cross_entropy": _summed(entropy)}


def _summed(terms: Sequence[Tensor]) -> Scalar:
    first, *others = terms
    for term in others:
        first = first + term
    return first
