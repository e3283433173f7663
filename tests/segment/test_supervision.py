"""Deep supervision: each output learns from the exact mean of what lies below it, and counts by its weight."""

import pytest
import torch
from torch.nn import functional as F

from apatite.losses.overlap import cross_entropy_loss, soft_dice_loss
from apatite.segment.supervision import coarser_target, output_weights, supervised_losses

ANNOTATED = torch.tensor([[True, True], [True, False]])


def targets_of(*edges: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 2, *edges)


def test_weights_halve_and_sum_to_one():
    assert output_weights(3) == (4 / 7, 2 / 7, 1 / 7)
    assert [sum(output_weights(count)) for count in (1, 2, 5)] == pytest.approx([1, 1, 1])
    assert output_weights(1) == (1.0,)


def test_a_coarser_target_is_the_fraction_of_a_larger_voxel():
    """Every element by hand, along axes of unequal factors."""
    targets = targets_of(4, 6, 8)
    made = coarser_target(targets, (2, 2, 8))
    assert made.shape == (2, 2, 2, 2, 8)
    for z in range(2):
        for y in range(2):
            below = targets[:, :, 2 * z : 2 * z + 2, 3 * y : 3 * y + 3]
            torch.testing.assert_close(made[:, :, z, y], below.mean(dim=(2, 3)))
    torch.testing.assert_close(made.mean(dim=(2, 3, 4)), targets.mean(dim=(2, 3, 4)))


def test_at_full_resolution_the_target_is_untouched():
    targets = targets_of(3, 4, 5)
    assert coarser_target(targets, (3, 4, 5)) is targets


def test_a_grid_that_is_no_whole_part_cannot_happen():
    with pytest.raises(AssertionError, match="whole"):
        coarser_target(targets_of(4, 6, 8), (3, 6, 8))


def test_losses_are_the_weighted_sums_of_each_outputs_own():
    targets = targets_of(4, 8, 12)
    outputs = tuple(
        (torch.randn(2, 2, *edges, requires_grad=True), weight)
        for edges, weight in zip([(4, 8, 12), (4, 4, 6), (2, 2, 3)], (4 / 7, 2 / 7, 1 / 7), strict=True)
    )
    losses = supervised_losses(outputs, targets, ANNOTATED)
    grids = [targets, F.avg_pool3d(targets, (1, 2, 2)), F.avg_pool3d(targets, (2, 4, 4))]
    for name, loss in (("dice_loss", soft_dice_loss), ("cross_entropy", cross_entropy_loss)):
        each = [loss(logits, target, ANNOTATED) for (logits, _), target in zip(outputs, grids, strict=True)]
        torch.testing.assert_close(losses[name], (4 * each[0] + 2 * each[1] + each[2]) / 7)
    sum(losses.values()).backward()
    for logits, _ in outputs:
        assert logits.grad is not None
        assert logits.grad[0].abs().max() > 0
        assert not logits.grad[1, 1].any(), "what was not looked for has no part"


def test_one_output_is_the_plain_loss_bit_for_bit():
    targets, logits = targets_of(4, 6, 8), torch.randn(2, 2, 4, 6, 8)
    losses = supervised_losses(((logits, 1.0),), targets, ANNOTATED)
    assert torch.equal(losses["dice_loss"], soft_dice_loss(logits, targets, ANNOTATED))
    assert torch.equal(losses["cross_entropy"], cross_entropy_loss(logits, targets, ANNOTATED))


def test_sums_over_processes_are_asked_for_once_per_output_and_loss():
    """Every process asks for the same sums in the same order, or they would wait for ever."""
    asked = []

    def add_up(value: torch.Tensor) -> torch.Tensor:
        asked.append(tuple(value.shape))
        return 2 * value

    targets = targets_of(4, 4, 8)
    outputs = ((torch.randn(2, 2, 4, 4, 8), 2 / 3), (torch.randn(2, 2, 2, 2, 4), 1 / 3))
    doubled = supervised_losses(outputs, targets, ANNOTATED, add_up)
    assert asked == [(3, 2), (2,), (3, 2), (2,)]
    plain = supervised_losses(outputs, targets, ANNOTATED)
    torch.testing.assert_close(doubled["cross_entropy"], plain["cross_entropy"])
