import pytest
import torch

from apatite.losses.overlap import cross_entropy_loss, soft_dice_loss

ALL = torch.ones(2, 3, dtype=torch.bool)


def test_soft_dice_matches_monai():
    from monai.losses import DiceLoss

    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, 6), (torch.rand(2, 3, 4, 5, 6) > 0.7).float()
    theirs = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, target)
    assert soft_dice_loss(logits, target, ALL).item() == pytest.approx(theirs.item(), abs=1e-6)


def test_cross_entropy_by_hand():
    logits = torch.zeros(2, 3, 1, 1, 1)
    assert cross_entropy_loss(logits, torch.ones(2, 3, 1, 1, 1), ALL).item() == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.parametrize("loss", [soft_dice_loss, cross_entropy_loss])
def test_what_was_not_annotated_is_ignored_exactly(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    target = (torch.rand(2, 3, 4, 5, 6) > 0.7).float()
    is_annotated = torch.tensor([[True, False, True], [True, True, True]])
    value = loss(logits, target, is_annotated)
    changed = target.clone()
    changed[0, 1] = 1 - changed[0, 1]
    assert loss(logits, changed, is_annotated).item() == value.item()
    value.backward()
    assert not logits.grad[0, 1].any()
    assert logits.grad[1, 1].any()


@pytest.mark.parametrize("loss", [soft_dice_loss, cross_entropy_loss])
def test_a_label_that_nobody_looked_for_in_the_batch_is_as_good_as_not_there(loss):
    """Neither does it count as a label in the mean, or batches with fewer labels would weigh less."""
    torch.manual_seed(1)
    logits, target = torch.randn(2, 3, 4, 5, 6), (torch.rand(2, 3, 4, 5, 6) > 0.7).float()
    is_annotated = torch.tensor([[True, False, True], [True, False, False]])
    kept = [0, 2]
    expected = loss(logits[:, kept], target[:, kept], is_annotated[:, kept])
    assert loss(logits, target, is_annotated).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("loss", [soft_dice_loss, cross_entropy_loss])
def test_nothing_annotated_is_zero_and_has_no_gradient(loss):
    logits = torch.randn(2, 3, 2, 2, 2, requires_grad=True)
    value = loss(logits, torch.ones(2, 3, 2, 2, 2), ~ALL)
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", [soft_dice_loss, cross_entropy_loss])
def test_gradient_against_finite_differences(loss):
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 2, 3, 2, dtype=torch.float32)
    target = torch.rand(1, 2, 2, 3, 2)
    is_annotated = torch.ones(1, 2, dtype=torch.bool)
    direction = torch.randn_like(logits)
    leaf = logits.clone().requires_grad_()
    loss(leaf, target, is_annotated).backward()
    step = 1e-2
    slope = (
        loss(logits + step * direction, target, is_annotated) - loss(logits - step * direction, target, is_annotated)
    ) / (2 * step)
    assert (leaf.grad * direction).sum().item() == pytest.approx(slope.item(), rel=2e-3, abs=1e-5)
