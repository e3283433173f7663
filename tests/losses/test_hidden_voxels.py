"""SimMIM's loss by hand, and the order in which a linear layer's values become voxels."""

from itertools import product

import pytest
import torch

from apatite.losses.hidden_voxels import hidden_l1, to_voxels
from apatite.nn.patches import unpatchify

SHAPE = (3, 2, 2, 3, 4)


def drawn(seed):
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hidden(seed, channels=1, share=0.4):
    shape = (SHAPE[0], channels, *SHAPE[2:])
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).double()


def test_by_hand():
    """Three hidden voxels of four, in two samples: one normaliser for both."""
    made = torch.tensor([0.5, 0.2, 0.9, 0.0]).reshape(2, 1, 1, 1, 2)
    wanted = torch.tensor([0.1, 0.2, 0.4, 1.0]).reshape(2, 1, 1, 1, 2)
    is_hidden = torch.tensor([1.0, 0.0, 1.0, 1.0]).reshape(2, 1, 1, 1, 2)
    assert hidden_l1(made, wanted, is_hidden).item() == pytest.approx((0.4 + 0.5 + 1.0) / (3 + 1e-5))


def test_the_released_formula_with_channels():
    """Sum over everything, divided by the hidden voxels and then by the channels."""
    made, wanted, is_hidden = drawn(0), drawn(1), hidden(2)
    released = ((made - wanted).abs() * is_hidden).sum() / (is_hidden.sum() + 1e-5) / SHAPE[1]
    assert hidden_l1(made, wanted, is_hidden).item() == pytest.approx(released.item(), rel=1e-6)
    assert hidden_l1(made, wanted, is_hidden.expand(SHAPE)) == hidden_l1(made, wanted, is_hidden)


def test_what_is_visible_counts_neither_in_the_value_nor_in_the_gradient():
    made, wanted, is_hidden = drawn(0).requires_grad_(), drawn(1), hidden(2)
    value = hidden_l1(made, wanted, is_hidden)
    value.backward()
    is_visible = (1 - is_hidden).expand(SHAPE).bool()
    assert not made.grad[is_visible].any()
    assert made.grad[~is_visible].all()
    changed = torch.where(is_visible, made + 7, made)
    assert hidden_l1(changed, wanted, is_hidden).item() == value.item()


def test_gradient_against_finite_differences():
    made, wanted, is_hidden = drawn(0).requires_grad_(), drawn(1), hidden(2)
    assert torch.autograd.gradcheck(lambda image: hidden_l1(image, wanted, is_hidden), made)


def test_nothing_hidden_is_nothing():
    made = drawn(0).requires_grad_()
    value = hidden_l1(made, drawn(1), torch.zeros(SHAPE))
    value.backward()
    assert value.item() == 0
    assert not made.grad.any()


def test_sixteen_bits_are_worked_on_in_thirty_two():
    made, wanted, is_hidden = drawn(0).bfloat16(), drawn(1).float(), hidden(2).float()
    value = hidden_l1(made, wanted, is_hidden)
    assert value.dtype == torch.float32
    assert value.item() == hidden_l1(made.float(), wanted, is_hidden).item()


def test_each_voxel_lies_where_the_formula_puts_it():
    """Channel (s1 · S2 + s2) · S3 + s3 of element (h, w, t) is voxel (S1 h + s1, S2 w + s2, S3 t + s3)."""
    grid, cell = (2, 3, 4), (5, 2, 3)
    depth, height, width = (g * c for g, c in zip(grid, cell, strict=True))
    rows = torch.empty(1, 2 * 3 * 4, 5 * 2 * 3)
    for h, w, t in product(*map(range, grid)):
        for s1, s2, s3 in product(*map(range, cell)):
            place = ((5 * h + s1) * height + 2 * w + s2) * width + 3 * t + s3
            rows[0, (h * 3 + w) * 4 + t, (s1 * 2 + s2) * 3 + s3] = place
    image = to_voxels(rows, grid, cell, (depth, height, width))
    assert torch.equal(image.flatten(), torch.arange(depth * height * width).float())


def test_the_order_is_that_of_patches_with_the_channel_last():
    rows = torch.rand(2, 2 * 3 * 1, 2 * 4 * 3 * 2)
    assert torch.equal(to_voxels(rows, (2, 3, 1), (2, 4, 3), (4, 12, 3)), unpatchify(rows, (2, 3, 1), (2, 4, 3)))


def test_what_a_padded_grid_has_too_much_is_cut_off_at_the_end():
    """Three cells of four voxels merge to two elements of eight: sixteen voxels where there are twelve."""
    rows = torch.rand(2, 2 * 1 * 2, 8 * 4 * 2)
    whole = to_voxels(rows, (2, 1, 2), (8, 4, 2), (16, 4, 4))
    assert torch.equal(to_voxels(rows, (2, 1, 2), (8, 4, 2), (12, 4, 3)), whole[:, :, :12, :, :3])
