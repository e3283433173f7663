"""The topological loss by hand, by finite differences, and by what must not change it."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from apatite.core.errors import ConfigError, DataError
from apatite.losses import diagram_jobs
from apatite.losses.topology import TopologyLoss, TopologyLossConfig, topological_loss
from apatite.topology.diagrams import DiagramConfig, diagrams
from apatite.topology.matching import match

WHOLE = TopologyLossConfig(pool=1, diagram=DiagramConfig(), per_point=False)
"""All voxels, all points, no division: the formula itself."""


def image_of(volume: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(volume))[None, None]


def hollow(inside: float, wall: float = 0.0) -> np.ndarray:
    """A dark box, whose inside is brighter: a cavity from `wall` to `inside`."""
    volume = np.ones((7, 8, 9))
    volume[1:6, 1:7, 1:8] = wall
    volume[2:5, 2:6, 2:7] = inside
    return volume


def ring(hole: float) -> np.ndarray:
    """A dark ring in one slice, whose hole is brighter: a tunnel from 0 to `hole`."""
    volume = np.ones((3, 6, 7))
    volume[1, 1:5, 1:6] = 0
    volume[1, 2:4, 2:5] = hole
    return volume


def blobs(second: float, between: float) -> np.ndarray:
    """Two dark blobs and what joins them: a component from `second` to `between`."""
    volume = np.ones((4, 5, 9))
    volume[1:3, 1:4, 1:3] = 0
    volume[1:3, 1:4, 5:8] = second
    volume[1, 2, 3:5] = between
    return volume


def noise(seed: int, shape: tuple[int, ...] = (1, 1, 5, 6, 8)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


@pytest.mark.parametrize(
    ("made", "given", "loss", "slopes"),
    [
        # Alone: half of persistence² / 2, and each end is pulled towards the other.
        (hollow(0.6), hollow(0.0), 0.6**2 / 4, [-0.3, 0.3]),
        (hollow(0.0), hollow(0.6), 0.6**2 / 4, []),
        (ring(0.5), ring(0.0), 0.5**2 / 4, [-0.25, 0.25]),
        (blobs(0.2, 0.7), blobs(0.7, 0.7), 0.5**2 / 4, [-0.25, 0.25]),
        # Paired: half of the squared distance, and each end is pulled towards the other point's.
        (ring(0.5), ring(0.8), 0.3**2 / 2, [-0.3]),
        (blobs(0.2, 0.7), blobs(0.1, 0.9), (0.1**2 + 0.2**2) / 2, [-0.2, 0.1]),
        # Far apart in value: cheaper alone, all four ends.
        (blobs(0.1, 0.2), blobs(0.8, 0.9), 2 * 0.1**2 / 4, [-0.05, 0.05]),
    ],
)
def test_loss_and_slopes_by_hand(made, given, loss, slopes):
    image = image_of(made).requires_grad_()
    value = topological_loss(image, image_of(given), WHOLE)
    assert value.item() == pytest.approx(loss, abs=1e-12)
    value.backward()
    assert sorted(image.grad[image.grad != 0].tolist()) == pytest.approx(slopes)


def test_bright_shapes_count_above_a_level():
    config = TopologyLossConfig(pool=1, diagram=DiagramConfig(level="super"), per_point=False)
    image = image_of(1 - hollow(0.6)).requires_grad_()
    loss = topological_loss(image, image_of(1 - hollow(0.0)), config)
    loss.backward()
    assert loss.item() == pytest.approx(0.6**2 / 4)
    assert sorted(image.grad[image.grad != 0].tolist()) == pytest.approx([-0.3, 0.3])


def test_the_class_that_never_dies_counts_only_if_it_is_paired():
    made, given = image_of(hollow(0.6, wall=0.25)), image_of(hollow(0.6, wall=0.25) - 0.1)
    losses = {
        essential: topological_loss(
            made, given, TopologyLossConfig(pool=1, diagram=DiagramConfig(essential=essential), per_point=False)
        ).item()
        for essential in ("drop", "pair")
    }
    assert losses["drop"] == pytest.approx((0.1**2 + 0.1**2) / 2)
    assert losses["pair"] == pytest.approx(losses["drop"] + 0.1**2 / 2)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("essential", ["drop", "pair"])
@pytest.mark.parametrize("level", ["sub", "super"])
def test_the_gradient_is_that_of_finite_differences(level, essential, pool):
    shape = (2, 1, 4 * pool, 5 * pool, 6 * pool)
    config = TopologyLossConfig(pool=pool, diagram=DiagramConfig(level=level, essential=essential))
    made, given = noise(1, shape).requires_grad_(), noise(2, shape)
    topological_loss(made, given, config).backward()
    for seed in range(4):
        along = noise(10 + seed, shape) - 0.5
        step = 1e-7
        with torch.no_grad():
            ends = [topological_loss(made + sign * step * along, given, config).item() for sign in (1, -1)]
        slope = (made.grad * along).sum().item()
        assert abs(slope) > 1e-5
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("level", ["sub", "super"])
def test_it_is_half_of_the_sum_of_squared_distances(level):
    made, given = noise(3), noise(4)
    config = DiagramConfig(level=level)
    found, wanted = (diagrams(image[0, 0].numpy(), config) for image in (made, given))
    total = sum(match(one, other).squared_distance for one, other in zip(found, wanted, strict=True))
    whole = topological_loss(made, given, TopologyLossConfig(pool=1, diagram=config, per_point=False))
    assert whole.item() == pytest.approx(total / 2, rel=1e-12)
    points = sum(len(diagram.births) for diagram in wanted)
    divided = topological_loss(made, given, TopologyLossConfig(pool=1, diagram=config))
    assert divided.item() == pytest.approx(total / 2 / points, rel=1e-12)


def test_volumes_without_points_are_divided_by_their_size():
    """504 voxels of air are divided as if they had two points, a few by one."""
    flat = torch.zeros(1, 1, 4, 6, 8)
    assert topological_loss(flat, flat + 1, TopologyLossConfig()).item() == 0
    made = image_of(hollow(0.6))
    loss = topological_loss(made, torch.ones_like(made), TopologyLossConfig(pool=1))
    assert loss.item() == pytest.approx(0.6**2 / 4 / 2)


@pytest.mark.parametrize("essential", ["drop", "pair"])
def test_equal_volumes_have_no_loss_and_no_gradient_at_all(essential):
    config = TopologyLossConfig(pool=1, diagram=DiagramConfig(essential=essential))
    for volume in (noise(5), noise(6).float(), (noise(7) * 4).round()):
        made = volume.clone().requires_grad_()
        loss = topological_loss(made, volume, config)
        loss.backward()
        assert loss.item() == 0
        assert not made.grad.any()


def test_turning_and_mirroring_both_volumes_changes_nothing():
    made, given = noise(8), noise(9)
    loss = topological_loss(made, given, WHOLE).item()
    for order in permutations((2, 3, 4)):
        turned = [image.permute(0, 1, *order).flip(order[0]) for image in (made, given)]
        assert topological_loss(turned[0], turned[1], WHOLE).item() == pytest.approx(loss, rel=1e-12)


def test_where_a_shape_lies_does_not_matter():
    moved = np.ones((9, 9, 12))
    moved[2:9, 1:9, 3:12] = hollow(0.6)
    here = np.ones((9, 9, 12))
    here[:7, :8, :9] = hollow(0.6)
    assert topological_loss(image_of(moved), image_of(here), WHOLE).item() == 0


def test_the_mean_over_samples_and_channels():
    made, given = noise(10, (3, 2, 4, 5, 6)), noise(11, (3, 2, 4, 5, 6))
    config = TopologyLossConfig(pool=1, diagram=DiagramConfig())
    each = [
        topological_loss(made[n : n + 1, c : c + 1], given[n : n + 1, c : c + 1], config).item()
        for n in range(3)
        for c in range(2)
    ]
    assert topological_loss(made, given, config).item() == pytest.approx(np.mean(each), rel=1e-12)


def test_cubes_are_averaged_first():
    made, given = noise(12, (1, 1, 8, 10, 12)), noise(13, (1, 1, 8, 10, 12))
    small = [torch.nn.functional.avg_pool3d(image, 2) for image in (made, given)]
    config = TopologyLossConfig(pool=2, diagram=DiagramConfig())
    at_once = TopologyLossConfig(pool=1, diagram=DiagramConfig())
    assert topological_loss(made, given, config).item() == topological_loss(small[0], small[1], at_once).item()


def test_threads_do_not_change_a_bit():
    shape = (3, 2, 8, 10, 12)
    given = noise(15, shape).float()
    seen = []
    for workers in (1, 3, 0):
        made = noise(14, shape).float().requires_grad_()
        loss = topological_loss(made, given, TopologyLossConfig(workers=workers))
        loss.backward()
        seen.append((loss.item(), made.grad))
    assert all(loss == seen[0][0] and torch.equal(grad, seen[0][1]) for loss, grad in seen)


def test_a_volume_that_comes_again_is_remembered_and_gives_the_same_bits(monkeypatch):
    count = []
    real = diagram_jobs.diagrams
    monkeypatch.setattr(diagram_jobs, "diagrams", lambda volume, config: count.append(1) or real(volume, config))
    loss = TopologyLoss(TopologyLossConfig(workers=1))
    made, given = noise(16, (1, 1, 8, 10, 12)).float(), noise(17, (1, 1, 8, 10, 12)).float()
    first = loss.start(made, given)()
    assert torch.equal(loss.start(made, given.clone())(), first)
    assert len(count) == 1
    assert loss.start(made, given + 0.5)() != first
    assert len(count) == 2


def test_formats_of_16_bits_are_worked_on_in_fp32_and_autocast_changes_nothing():
    made, given = noise(18, (1, 1, 8, 10, 12)), noise(19, (1, 1, 8, 10, 12)).float()
    for narrow in (made.bfloat16(), made.half()):
        loss = topological_loss(narrow, given, TopologyLossConfig())
        assert loss.dtype == torch.float32
        assert torch.equal(loss, topological_loss(narrow.float(), given, TopologyLossConfig()))
    plain = topological_loss(made.float(), given, TopologyLossConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(topological_loss(made.float(), given, TopologyLossConfig()), plain)
    assert topological_loss(made, given.double(), TopologyLossConfig()).dtype == torch.float64


def test_what_the_caller_changes_meanwhile_does_not_count():
    made, given = noise(20), noise(21)
    loss = topological_loss(made, given, WHOLE)
    buffer = given.clone()
    wait = TopologyLoss(WHOLE).start(made, buffer)
    buffer.zero_()
    assert torch.equal(wait(), loss)


def test_a_few_steps_bring_the_shape_nearer():
    draw = np.random.default_rng(22)
    smooth = [gaussian_filter(draw.random((12, 14, 18)), 1.5) for _ in range(2)]
    made, given = (image_of((each - each.min()) / np.ptp(each)).float() for each in smooth)
    made.requires_grad_()
    loss = TopologyLoss(TopologyLossConfig(pool=1))
    optimizer = torch.optim.Adam([made], lr=0.02)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        value = loss.start(made, given)()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


def test_what_was_made_of_air_weighs_no_more_than_what_was_made_of_tissue():
    """The same error on a flat input and on one with texture pulls about as hard."""
    error = 0.02 * noise(31, (1, 1, 16, 20, 24))
    pulls = []
    for given in (torch.zeros(1, 1, 16, 20, 24), noise(32, (1, 1, 16, 20, 24))):
        made = (given + error).requires_grad_()
        topological_loss(made, given, TopologyLossConfig(pool=1)).backward()
        pulls.append(made.grad.norm().item())
    assert pulls[0] < 5 * pulls[1]


def test_what_was_made_may_be_no_number_and_then_the_loss_is_none_either():
    made = noise(23, (2, 3, 4, 5, 6))
    made[1, 2, 0, 0, 0] = float("nan")
    made.requires_grad_()
    loss = TopologyLoss(WHOLE).start(made, noise(24, (2, 3, 4, 5, 6)))()
    assert torch.isnan(loss)
    loss.backward()


def test_a_volume_that_is_not_finite_is_named():
    given = noise(23, (2, 3, 4, 5, 6))
    given[1, 2, 0, 0, 0] = float("nan")
    wait = TopologyLoss(WHOLE).start(noise(24, (2, 3, 4, 5, 6)), given)
    with pytest.raises(DataError, match="not finite") as caught:
        wait()
    assert caught.value.where.startswith("sample 1, channel 2")
    assert caught.value.code == "NONFINITE"


def test_wrong_settings_and_shapes_are_refused():
    with pytest.raises(ConfigError, match="cubes of 2 voxels do not fill a volume of 4×5×6"):
        topological_loss(noise(25, (1, 1, 4, 5, 6)), noise(26, (1, 1, 4, 5, 6)), TopologyLossConfig(pool=2))
    with pytest.raises(ConfigError, match="cubes of 0"):
        TopologyLossConfig(pool=0)
    with pytest.raises(ConfigError, match="-2 workers"):
        TopologyLossConfig(workers=-2)
