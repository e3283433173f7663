"""KoLeo by hand, against finite differences, and where there is nobody near."""

import math

import pytest
import torch

from apatite.losses.koleo import koleo_loss


def test_nearest_neighbours_by_hand():
    """Directions at 0°, 30°, 90° and 200° of any length: the nearest are 30°, 30°, 60° and 110° away."""
    angles, lengths = torch.tensor([0.0, 30.0, 90.0, 200.0]).deg2rad(), torch.tensor([1.0, 5.0, 0.2, 3.0])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1) * lengths[:, None]
    chords = [2 * math.sin(math.radians(angle) / 2) for angle in (30, 30, 60, 110)]
    expected = -sum(math.log(chord) for chord in chords) / 4
    assert koleo_loss(rows).item() == pytest.approx(expected, abs=1e-5)


def test_two_opposite_points_pay_least():
    assert koleo_loss(torch.tensor([[3.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-math.log(2), abs=1e-6)


def test_gradient_against_finite_differences():
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(koleo_loss, rows)


def test_a_step_against_the_gradient_moves_neighbours_apart():
    rows = (torch.ones(6, 4) + 0.01 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1))).requires_grad_()
    before = koleo_loss(rows)
    before.backward()
    assert koleo_loss(rows - 1e-4 * rows.grad) < before


def test_equal_rows_stay_finite():
    rows = torch.ones(3, 4, requires_grad=True)
    loss = koleo_loss(rows)
    loss.backward()
    assert loss.item() == pytest.approx(8 * math.log(10), rel=1e-5)
    assert not rows.grad.any()


@pytest.mark.parametrize("count", [0, 1])
def test_who_is_alone_pays_nothing(count):
    rows = torch.randn(count, 4, requires_grad=True)
    loss = koleo_loss(rows)
    loss.backward()
    assert loss.item() == 0
    assert not rows.grad.any()


def test_sixteen_bits_are_worked_on_in_thirty_two_also_under_autocast():
    rows = torch.randn(9, 6, generator=torch.Generator().manual_seed(2)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = koleo_loss(rows)
    assert found.dtype == torch.float32
    assert found.item() == koleo_loss(rows.float()).item()
