"""The loss of the four turns against values by hand and finite differences."""

import math

import pytest
import torch

from apatite.losses.rotation import rotation_loss


def test_a_network_that_knows_nothing_has_a_loss_of_ln_4():
    assert rotation_loss(torch.zeros(5, 4), torch.tensor([0, 1, 2, 3, 1])).item() == pytest.approx(math.log(4))


def test_the_loss_by_hand():
    logits = torch.tensor([[math.log(2), 0.0, 0.0, 0.0], [0.0, 0.0, math.log(6), 0.0], [0.0, math.log(3), 0.0, 0.0]])
    # Shares 2/5, 1/9 and 3/6 of what was asked for.
    wanted = (math.log(5 / 2) + math.log(9) + math.log(2)) / 3
    assert rotation_loss(logits, torch.tensor([0, 1, 1])).item() == pytest.approx(wanted)


def test_gradient_against_finite_differences():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: rotation_loss(value, torch.tensor([3, 0, 2])), (logits,))


def test_half_precision_is_computed_in_full():
    loss = rotation_loss(torch.tensor([[9.0, 0.0, 0.0, 0.0]], dtype=torch.bfloat16), torch.tensor([0]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(3 * math.exp(-9)), rel=1e-3)  # in bf16 it would be 0
