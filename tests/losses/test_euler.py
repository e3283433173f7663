"""The Euler characteristic curve against cells counted one by one, Betti numbers, and finite differences."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.losses.euler import EulerLossConfig, euler_curve, euler_loss
from apatite.metrics.betti import betti_numbers
from apatite.topology.diagrams import DiagramConfig, diagrams

PLAIN = EulerLossConfig(pool=1, thresholds=6)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def by_hand(volume: np.ndarray, thresholds: int, ramp: float = 2.0) -> np.ndarray:
    """Every cell of the complex, visited alone."""
    curve = np.zeros(thresholds)
    for extent in product((0, 1), repeat=3):
        for corner in product(*(range(edge - more) for edge, more in zip(volume.shape, extent, strict=True))):
            cell = tuple(slice(start, start + more + 1) for start, more in zip(corner, extent, strict=True))
            for k in range(thresholds):
                share = ((k + 0.5) / thresholds - volume[cell].max()) * thresholds / ramp + 0.5
                curve[k] += (-1) ** sum(extent) * min(max(share, 0.0), 1.0)
    return curve


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 3), (1, 1, 1), (2, 1, 5)])
def test_the_curve_counts_every_cell(shape: tuple[int, int, int]) -> None:
    volume = 1.4 * image(1, 1, *shape) - 0.2
    for thresholds, ramp in ((1, 1.0), (6, 1.0), (6, 2.0), (7, 2.6)):
        found = euler_curve(volume, thresholds, ramp)[0, 0].numpy()
        assert found == pytest.approx(by_hand(volume[0, 0].numpy(), thresholds, ramp))


def test_beside_the_ramps_it_is_components_minus_tunnels_plus_cavities() -> None:
    # Values of k/8 and ramps of 1/8: nothing is counted in part.
    volume = (image(2, 2, 6, 8, 9, seed=3) * 8).floor() / 8
    curves = euler_curve(volume, 8, ramp=1.0)
    for sample, channel in product(range(2), range(2)):
        voxels = volume[sample, channel].numpy()
        of_dimensions = diagrams(voxels, DiagramConfig())
        for k, threshold in enumerate((np.arange(8) + 0.5) / 8):
            alive = [int(((d.births <= threshold) & (threshold < d.deaths)).sum()) for d in of_dimensions]
            betti = betti_numbers(voxels <= threshold)
            # The component that never dies is in no diagram.
            components = alive[0] + int(threshold >= voxels.min())
            assert (components, alive[1], alive[2]) == (betti.components, betti.tunnels, betti.cavities)
            assert curves[sample, channel, k].item() == components - alive[1] + alive[2]
    assert curves.abs().max() > 5
    # A ramp twice as wide reaches every value of the same thresholds, but not those between.
    wide = euler_curve(volume, 32, ramp=2.0)
    assert torch.equal(wide[..., 1::4], curves)


def test_the_loss_by_hand_is_a_share_of_the_inputs_curve() -> None:
    made, given = image(2, 1, 3, 4, 5), image(2, 1, 3, 4, 5, seed=1)
    rows = [(by_hand(a[0].numpy(), 6), by_hand(b[0].numpy(), 6)) for a, b in zip(made, given, strict=True)]
    shares = [np.mean((found - wanted) ** 2) / (np.mean(wanted**2) + 0.06**2) for found, wanted in rows]
    assert euler_loss(made, given, PLAIN).item() == pytest.approx(np.mean(shares))
    # All of the curve is missing where nothing is ever below a threshold.
    nothing = torch.full_like(given, 2.0)
    assert euler_loss(nothing, given, PLAIN).item() == pytest.approx(1.0, abs=0.01)
    # An input without any feature: the one there is, or is not, for all of 2×4×6 voxels after pooling.
    lone = torch.zeros(1, 1, 4, 8, 12, dtype=torch.float64)
    expected = 1 / (1 + 0.048**2)
    assert euler_loss(lone + 2, lone - 1, EulerLossConfig(pool=2)).item() == pytest.approx(expected)
    assert euler_loss(lone - 1, lone + 2, EulerLossConfig(pool=2)).item() == pytest.approx(1 / 0.048**2)


def test_channels_and_samples_are_averaged() -> None:
    made, given = image(2, 3, 4, 5, 6), image(2, 3, 4, 5, 6, seed=1)
    alone = [euler_loss(made[n : n + 1, c : c + 1], given[n : n + 1, c : c + 1], PLAIN).item()
             for n, c in product(range(2), range(3))]  # fmt: skip
    assert euler_loss(made, given, PLAIN).item() == pytest.approx(np.mean(alone))


@pytest.mark.parametrize(("pool", "ramp"), [(1, 1.0), (1, 2.0), (2, 2.0), (1, 3.3)])
def test_gradient_against_finite_differences(pool: int, ramp: float) -> None:
    config = EulerLossConfig(pool=pool, thresholds=5, ramp=ramp)
    made, given, direction = (image(2, 2, 4, 6, 8, seed=seed) for seed in range(3))
    leaf = made.requires_grad_()
    (gradient,) = torch.autograd.grad(euler_loss(leaf, given, config), leaf)
    step = 1e-8
    up, down = (euler_loss(made.detach() + way * step * direction, given, config).item() for way in (1, -1))
    assert (gradient * direction).sum().item() == pytest.approx((up - down) / (2 * step), rel=1e-5)
    for voxel in ((0, 0, 0, 0, 0), (1, 1, 2, 3, 4), (1, 0, 3, 5, 7)):
        single = torch.zeros_like(direction)
        single[voxel] = 1e-6
        slope = euler_loss(made.detach() + single, given, config) - euler_loss(made.detach() - single, given, config)
        assert gradient[voxel].item() == pytest.approx(slope.item() / 2e-6, rel=1e-4, abs=1e-9)
    assert (gradient != 0).double().mean() > 0.3


def test_the_same_volume_has_no_loss_and_no_gradient() -> None:
    given = image(2, 1, 4, 6, 8).float()
    made = given.clone().requires_grad_()
    loss = euler_loss(made, given, EulerLossConfig())
    loss.backward()
    assert loss.item() == 0
    assert loss.dtype == torch.float32
    assert made.grad is not None
    assert not made.grad.any()


def test_flips_and_turns_of_both_change_nothing() -> None:
    made, given = image(1, 2, 4, 6, 8), image(1, 2, 4, 6, 8, seed=1)
    expected = euler_loss(made, given, PLAIN).item()
    assert expected > 1e-5
    for axes in ((2, 3, 4), (3, 4, 2), (4, 3, 2)):
        for flipped in ((), (2,), (3, 4)):
            a, b = (one.permute(0, 1, *axes).flip(flipped) for one in (made, given))
            assert euler_loss(a, b, PLAIN).item() == pytest.approx(expected, rel=1e-9)


def test_a_weight_means_the_same_at_any_size() -> None:
    """Twelve copies side by side, apart by bright walls, have twelve times the features and the same loss."""
    made, given = (torch.nn.functional.pad(image(1, 1, 5, 6, 7, seed=n), (0, 1) * 3, value=2.0) for n in range(2))
    several = euler_loss(made.repeat(1, 1, 2, 3, 2), given.repeat(1, 1, 2, 3, 2), PLAIN)
    assert several.item() == pytest.approx(euler_loss(made, given, PLAIN).item(), rel=1e-9)


def test_values_beyond_the_thresholds_are_counted_and_pull_nowhere() -> None:
    given = image(1, 1, 3, 4, 5)
    made = given.clone()
    made[0, 0, 1, 1, 1], made[0, 0, 2, 3, 4] = -3.0, 7.0
    made.requires_grad_()
    euler_loss(made, image(1, 1, 3, 4, 5, seed=1), PLAIN).backward()
    assert made.grad is not None
    assert made.grad[0, 0, 1, 1, 1] == made.grad[0, 0, 2, 3, 4] == 0
    assert math.isfinite(made.grad.abs().max().item())


def test_what_was_given_gets_no_gradient() -> None:
    given = image(1, 1, 3, 4, 5).requires_grad_()
    made = image(1, 1, 3, 4, 5, seed=1).requires_grad_()
    euler_loss(made, given, PLAIN).backward()
    assert given.grad is None


def test_what_gives_no_curve_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 thresholds"):
        EulerLossConfig(thresholds=0)
    with pytest.raises(ConfigError, match="cubes of 0"):
        EulerLossConfig(pool=0)
    for ramp in (0.5, 33.0, float("nan")):
        with pytest.raises(ConfigError, match="spacings"):
            EulerLossConfig(ramp=ramp)
    with pytest.raises(ConfigError, match="4×6×7") as caught:
        euler_loss(image(1, 1, 4, 6, 7), image(1, 1, 4, 6, 7), EulerLossConfig(pool=2))
    assert caught.value.code == "BAD_POOL"


@pytest.mark.parametrize(("ramp", "low", "high"), [(1.0, 0.3, 0.34), (2.0, 0.7, 0.91)])
def test_descent_takes_a_blob_too_many_away_unless_ramps_are_narrow(ramp: float, low: float, high: float) -> None:
    """Narrow ramps leave it where the first one ends, at 2/6."""
    config = EulerLossConfig(pool=1, thresholds=6, ramp=ramp)
    given = torch.full((1, 1, 3, 4, 5), 0.9, dtype=torch.float64)
    given[..., 0, 0, 0] = 0.1
    made = given.clone()
    made[..., 1, 2, 3] = 0.25
    for _ in range(60):
        made.requires_grad_()
        (gradient,) = torch.autograd.grad(euler_loss(made, given, config), made)
        made = (made - 0.015 * gradient).detach()
    assert low < made[0, 0, 1, 2, 3].item() < high
    assert made[0, 0, 0, 0, 0].item() == pytest.approx(0.1, abs=1e-3)
