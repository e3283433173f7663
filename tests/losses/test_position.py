import pytest
import torch

from apatite.losses.position import point_error_mm, position_loss


def test_the_loss_by_hand():
    wanted = torch.zeros(2, 9, 3)
    found = wanted.clone()
    found[0, 4, 1], found[1, 0, 2] = 0.3, -0.6
    assert position_loss(found, wanted).item() == pytest.approx((0.09 + 0.36) / 54)
    assert position_loss(wanted, found).item() == pytest.approx((0.09 + 0.36) / 54)
    assert position_loss(found, found).item() == 0


def test_the_loss_is_the_peers_and_has_its_gradient():
    torch.manual_seed(0)
    found, wanted = torch.rand(4, 9, 3, requires_grad=True), torch.rand(4, 9, 3)
    loss = position_loss(found, wanted)
    torch.testing.assert_close(loss, torch.nn.MSELoss()(found, wanted))
    loss.backward()
    torch.testing.assert_close(found.grad, 2 * (found.detach() - wanted) / 108)


def test_half_precision_is_compared_in_full():
    found = torch.full((1, 9, 3), 1e-4, dtype=torch.float16)
    loss = position_loss(found, torch.zeros(1, 9, 3))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1e-8, rel=1e-3)  # in half precision it would be 0


def test_the_error_is_the_mean_distance_in_mm_of_each_crops_own_volume():
    wanted = torch.full((2, 9, 3), 0.5)
    found = wanted.clone()
    found[0, 0] += torch.tensor([0.3, 0.4, 0.0])
    found[1, :, 2] -= 0.1
    extent_mm = torch.tensor([[10.0, 10.0, 999.0], [7.0, 7.0, 250.0]])
    # One of nine points is 3 mm and 4 mm off; in the other crop all are a tenth of 250 mm off.
    assert point_error_mm(found, wanted, extent_mm).tolist() == pytest.approx([5 / 9, 25.0])


def test_the_error_has_depth_height_and_width_in_this_order():
    wanted = torch.zeros(3, 9, 3)
    found = torch.eye(3)[:, None].expand(3, 9, 3)
    assert point_error_mm(found, wanted, torch.tensor([[2.0, 3.0, 5.0]] * 3)).tolist() == pytest.approx([2.0, 3.0, 5.0])
