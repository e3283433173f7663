"""The loss on similarities by hand and against finite differences."""

import pytest
import torch

from apatite.losses.gram import gram_loss


def test_similarities_by_hand():
    """Right angles in the student where the anchor has the same and the opposite direction: lengths do not count."""
    student = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[1.0, 0.0], [5.0, 0.0]]])
    anchor = torch.tensor([[[1.0, 0.0], [4.0, 0.0]], [[0.0, 1.0], [0.0, -2.0]]])
    # Cosines of the pair: 0 against 1, then 1 against -1; each stands twice in its table of four.
    assert gram_loss(student, anchor).item() == pytest.approx((2 * 1 + 2 * 4) / 8)


def test_a_turn_of_all_tokens_costs_nothing():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    assert gram_loss(tokens @ turn, tokens).item() == pytest.approx(0, abs=1e-20)
    assert gram_loss(tokens, tokens.roll(1, dims=1)).item() > 0.01


def test_samples_are_not_compared_with_each_other():
    tokens = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    turned = tokens.clone()
    turned[1] = -turned[1]
    assert gram_loss(turned, tokens).item() == pytest.approx(0, abs=1e-10)


def test_gradient_against_finite_differences_and_none_for_the_anchor():
    generator = torch.Generator().manual_seed(2)
    student, anchor = (torch.randn(2, 4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda tokens: gram_loss(tokens, anchor), student.requires_grad_())
    gram_loss(student, anchor.requires_grad_()).backward()
    assert anchor.grad is None


def test_sixteen_bits_are_worked_on_in_thirty_two_also_under_autocast():
    generator = torch.Generator().manual_seed(3)
    student, anchor = (torch.randn(2, 4, 3, generator=generator).bfloat16() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gram_loss(student, anchor)
    assert found.dtype == torch.float32
    assert found.item() == gram_loss(student.float(), anchor.float()).item()
