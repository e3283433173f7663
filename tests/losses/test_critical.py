"""The critical-voxel loss by hand, against finite differences, and where the topological distance sees nothing."""

import numpy as np
import pytest
import torch

from apatite.core.errors import ConfigError, DataError
from apatite.losses.critical import CriticalVoxelLoss, CriticalVoxelLossConfig, critical_voxel_loss, critical_weights
from apatite.topology.diagrams import DiagramConfig, diagrams

PLAIN = CriticalVoxelLossConfig(pool=1, diagram=DiagramConfig())


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def test_two_wells_by_hand() -> None:
    # In a row of one voxel's height: the second well is born at 0.3, and joins the first over the wall of 0.8.
    given = torch.tensor([0.1, 0.5, 0.8, 0.3, 0.6], dtype=torch.float64).reshape(1, 1, 1, 1, 5)
    made = torch.tensor([0.9, 0.9, 0.7, 0.6, 0.1], dtype=torch.float64).reshape(1, 1, 1, 1, 5)
    assert critical_voxel_loss(made, given, PLAIN).item() == pytest.approx((0.3**2 + 0.1**2) / 2)
    # A third well of persistence 0.2, between 0.6 and 0.4: weights 0.5 and 0.2.
    given = torch.tensor([0.1, 0.5, 0.8, 0.3, 0.6, 0.4], dtype=torch.float64).reshape(1, 1, 6, 1, 1)
    made = torch.zeros_like(given)
    expected = (0.5 * (0.8**2 + 0.3**2) + 0.2 * (0.6**2 + 0.4**2)) / (2 * 0.7)
    assert critical_voxel_loss(made, given, PLAIN).item() == pytest.approx(expected)
    least = CriticalVoxelLossConfig(pool=1, diagram=DiagramConfig(least_persistence=0.3))
    assert critical_voxel_loss(made, given, least).item() == pytest.approx((0.8**2 + 0.3**2) / 2)


def test_all_dimensions_take_part_by_the_formula() -> None:
    made, given = image(2, 2, 6, 7, 8), image(2, 2, 6, 7, 8, seed=1)
    losses = []
    for a, b in zip(made.reshape(4, -1).numpy(), given.reshape(4, 6, 7, 8).numpy(), strict=True):
        of_input, above, below = b.ravel(), 0.0, 0.0
        for diagram in diagrams(b, DiagramConfig()):
            assert len(diagram.births) > 0
            for x, y in zip(diagram.birth_voxels, diagram.death_voxels, strict=True):
                persistence = abs(of_input[y] - of_input[x])
                above += persistence * ((a[x] - of_input[x]) ** 2 + (a[y] - of_input[y]) ** 2) / 2
                below += persistence
        losses.append(above / below)
    assert critical_voxel_loss(made, given, PLAIN).item() == pytest.approx(np.mean(losses))


def test_weights_of_a_volume_add_up_to_one_and_lie_on_its_critical_voxels() -> None:
    volume = image(4, 5, 6).numpy()
    found = diagrams(volume, DiagramConfig(least_persistence=0.1, most_points=7))
    weights = critical_weights(volume.shape, found)
    assert weights.sum() == pytest.approx(1.0)
    critical = {int(voxel) for d in found for voxel in (*d.birth_voxels, *d.death_voxels)}
    assert set(np.flatnonzero(weights).tolist()) == critical
    assert len(critical) <= 6 * 7


@pytest.mark.parametrize("level", ["sub", "super"])
def test_a_shape_that_moved_is_seen_where_the_distance_of_diagrams_is_nothing(level: str) -> None:
    sign = 1.0 if level == "sub" else -1.0
    given, moved = (torch.full((1, 1, 6, 7, 9), 0.5, dtype=torch.float64) for _ in range(2))
    given[0, 0, 1:3, 1:3, 1:3] -= 0.4 * sign
    given[0, 0, 4, 5, 1] -= 0.2 * sign
    moved[0, 0, 3:5, 4:6, 6:8] -= 0.4 * sign
    moved[0, 0, 1, 1, 7] -= 0.2 * sign
    config = DiagramConfig(level="super" if level == "super" else "sub")
    for one, other in zip(*(diagrams(v[0, 0].numpy(), config) for v in (given, moved)), strict=True):
        assert (one.births.tolist(), one.deaths.tolist()) == (other.births.tolist(), other.deaths.tolist())
    loss = critical_voxel_loss(moved, given, CriticalVoxelLossConfig(pool=1, diagram=config))
    # The small blob is the only finite point: its own voxel lost 0.2, and the voxel where it ends is background.
    assert loss.item() >= 0.2**2 / 2 - 1e-12


@pytest.mark.parametrize("pool", [1, 2])
def test_gradient_against_finite_differences(pool: int) -> None:
    made, given, direction = (image(2, 2, 4, 6, 8, seed=seed) for seed in range(3))
    config = CriticalVoxelLossConfig(pool=pool)
    leaf = made.clone().requires_grad_()
    critical_voxel_loss(leaf, given, config).backward()
    step = 1e-6
    up, down = (critical_voxel_loss(made + way * step * direction, given, config).item() for way in (1, -1))
    assert leaf.grad is not None
    assert (leaf.grad * direction).sum().item() == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_the_same_volume_has_no_loss_and_no_gradient() -> None:
    given = image(2, 1, 4, 6, 8).float()
    made = given.clone().requires_grad_()
    loss = critical_voxel_loss(made, given, CriticalVoxelLossConfig())
    loss.backward()
    assert loss.item() == 0
    assert loss.dtype == torch.float32
    assert made.grad is not None
    assert not made.grad.any()


def test_a_constant_input_asks_for_nothing() -> None:
    given = torch.full((1, 1, 4, 4, 6), 0.5)
    made = image(1, 1, 4, 4, 6).float().requires_grad_()
    loss = critical_voxel_loss(made, given, PLAIN)
    loss.backward()
    assert loss.item() == 0
    assert made.grad is not None
    assert not made.grad.any()
    # Beside another one it still counts as a volume.
    both = torch.cat([given, image(1, 1, 4, 4, 6, seed=1).float()])
    twice = torch.cat([made.detach(), made.detach()])
    alone = critical_voxel_loss(twice[1:], both[1:], PLAIN)
    assert critical_voxel_loss(twice, both, PLAIN).item() == pytest.approx(alone.item() / 2)


def test_what_was_given_gets_no_gradient_and_its_diagrams_are_made_once(monkeypatch) -> None:
    from apatite.losses import diagram_jobs

    made_of = []

    def counted(volume: np.ndarray, config: DiagramConfig):
        made_of.append(volume.shape)
        return diagrams(volume, config)

    monkeypatch.setattr(diagram_jobs, "diagrams", counted)
    given = image(2, 1, 4, 4, 6, seed=1).requires_grad_()
    loss = CriticalVoxelLoss(CriticalVoxelLossConfig(workers=1))
    values = []
    for seed in (2, 2, 3):
        made = image(2, 1, 4, 4, 6, seed=seed).requires_grad_()
        value = loss.start(made, given)()
        value.backward()
        values.append(value.item())
    assert made_of == [(2, 2, 3)] * 2
    assert values[0] == values[1] != values[2]
    assert given.grad is None


def test_what_cannot_be_compared_is_refused() -> None:
    for senseless in ({"pool": 0}, {"workers": -1}):
        with pytest.raises(ConfigError) as caught:
            CriticalVoxelLossConfig(**senseless)
        assert caught.value.where == f"critical.{next(iter(senseless))}"
    with pytest.raises(ConfigError) as caught:
        critical_voxel_loss(image(1, 1, 4, 5, 6), image(1, 1, 4, 5, 6), CriticalVoxelLossConfig(pool=2))
    assert caught.value.code == "BAD_POOL"
    broken = image(2, 2, 4, 4, 6)
    broken[1, 0, 2, 2, 2] = float("nan")
    with pytest.raises(DataError, match="finite") as refused:
        critical_voxel_loss(image(2, 2, 4, 4, 6), broken, PLAIN)
    assert (refused.value.code, "sample 1, channel 0" in refused.value.where) == ("NONFINITE", True)
