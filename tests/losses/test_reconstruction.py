import pytest
import torch

from apatite.losses.reconstruction import mean_squared_error, normalise_patches


def test_each_channel_of_a_patch_is_normalised_by_itself():
    rows = torch.tensor([[[1.0, 10.0, 3.0, 30.0, 5.0, 50.0]]])  # three voxels of two channels, channel last
    made = normalise_patches(rows, 2)[0, 0]
    assert made[0::2].tolist() == pytest.approx([-1, 0, 1])
    assert made[1::2].tolist() == pytest.approx([-1, 0, 1])


def test_matches_the_reference_formula_for_one_channel():
    rows = torch.randn(2, 5, 64)
    reference = (rows - rows.mean(dim=-1, keepdim=True)) / (rows.var(dim=-1, keepdim=True) + 1.0e-6) ** 0.5
    assert torch.allclose(normalise_patches(rows, 1), reference, atol=1e-6)


def test_a_patch_that_is_flat_but_for_noise_stays_near_zero_under_a_floor():
    torch.manual_seed(0)
    noise, edge = 0.01 * torch.randn(1, 1, 64), torch.linspace(-1, 1, 64)[None, None]
    rows = torch.cat([noise, edge], dim=1)
    plain, floored = normalise_patches(rows, 1), normalise_patches(rows, 1, (0.05,))
    assert plain[0, 0].std().item() == pytest.approx(1, abs=0.02)
    spread = rows[0, 0].std().item()
    assert floored[0, 0].std().item() == pytest.approx(spread / (spread**2 + 0.05**2 + 1e-6) ** 0.5, rel=1e-3)
    assert floored[0, 1].std().item() > 0.98


def test_air_becomes_zero():
    assert not normalise_patches(torch.full((1, 2, 8), -1.0), 1).any()


def test_mean_squared_error_by_hand():
    loss = mean_squared_error(torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]]), torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]]]))
    assert loss.item() == pytest.approx((1 + 4 + 9 + 0) / 4)
