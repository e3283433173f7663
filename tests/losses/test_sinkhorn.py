"""Sinkhorn's offset against the dense algorithm, its fixed point, and several processes; a teacher's health by hand."""

import math
import threading

import pytest
import torch
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.losses.distillation import Projected, sinkhorn_offset, teacher_health

ROWS, PROTOTYPES, DIM, TEMPERATURE = 23, 11, 5, 0.07


def drawn(rows=ROWS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    points, directions = (torch.randn(count, DIM, generator=generator, dtype=dtype) for count in (rows, PROTOTYPES))
    # Towards one side, so that without centring a few prototypes take all.
    return Projected(points=F.normalize(points + 0.7, dim=1), prototypes=F.normalize(directions, dim=1))


def distributions(teacher, offset, temperature=TEMPERATURE):
    return (teacher.points @ teacher.prototypes.t() / temperature + offset).softmax(dim=1)


def dense(teacher, iterations, temperature=TEMPERATURE):
    """Columns to equal sums, rows to 1, so many times, as the algorithm is told."""
    shares = (teacher.points @ teacher.prototypes.t() / temperature).exp()
    for _ in range(iterations):
        shares = shares / shares.sum(dim=0, keepdim=True) / PROTOTYPES
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares


class Shared:
    """A sum over threads that stand for processes, in an order that is always the same."""

    def __init__(self, of):
        self.barrier, self.given = threading.Barrier(of), {}

    def add_up(self, index):
        def one(value):
            self.given[index] = value
            self.barrier.wait(timeout=10)
            total = sum(self.given[other] for other in sorted(self.given))
            self.barrier.wait(timeout=10)
            return total

        return one


@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
@pytest.mark.parametrize("chunk_rows", [4, 256])
def test_the_softmax_with_the_offset_is_the_dense_algorithm(iterations, chunk_rows):
    teacher = drawn()
    offset = sinkhorn_offset(teacher, TEMPERATURE, iterations=iterations, chunk_rows=chunk_rows)
    assert torch.allclose(distributions(teacher, offset), dense(teacher, iterations), rtol=0, atol=1e-12)
    assert offset.mean().item() == pytest.approx(0, abs=1e-12)


def test_in_the_end_every_prototype_has_the_same_share():
    teacher = drawn()
    before = distributions(teacher, torch.zeros(PROTOTYPES, dtype=torch.float64)).mean(dim=0)
    after = distributions(teacher, sinkhorn_offset(teacher, TEMPERATURE, iterations=500)).mean(dim=0)
    assert before.max() > 2 / PROTOTYPES
    assert torch.allclose(after, torch.full_like(after, 1 / PROTOTYPES), rtol=1e-6)


def test_fp32_is_near_and_stays_fp32():
    offset = sinkhorn_offset(drawn(dtype=torch.float32), TEMPERATURE)
    assert offset.dtype == torch.float32
    teacher = drawn(dtype=torch.float32)
    exact = sinkhorn_offset(
        Projected(points=teacher.points.double(), prototypes=teacher.prototypes.double()), TEMPERATURE
    )
    assert torch.allclose(offset.double(), exact, atol=2e-5)


@pytest.mark.parametrize("cuts", [(10, 23), (0, 23), (5, 16, 23)])
def test_parts_of_a_batch_find_the_offset_of_the_whole(cuts):
    """Also where a part has no rows."""
    whole, shared, found = drawn(), Shared(len(cuts)), {}

    def work(index):
        rows = slice(cuts[index - 1] if index else 0, cuts[index])
        part = Projected(points=whole.points[rows], prototypes=whole.prototypes)
        found[index] = sinkhorn_offset(part, TEMPERATURE, add_up=shared.add_up(index), chunk_rows=4)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(cuts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    expected = sinkhorn_offset(whole, TEMPERATURE)
    assert len(found) == len(cuts)
    assert all(torch.allclose(offset, expected, rtol=0, atol=1e-11) for offset in found.values())


@pytest.mark.parametrize("temperature", [1e-3, 1e-5])
def test_a_tiny_temperature_gives_a_finite_offset(temperature):
    teacher = drawn(dtype=torch.float32)
    offset = sinkhorn_offset(teacher, temperature)
    assert offset.isfinite().all()
    assert distributions(teacher, offset, temperature).isfinite().all()


def test_no_rows_and_no_gradient():
    teacher = drawn(0)
    assert sinkhorn_offset(teacher, TEMPERATURE).abs().max() < 1e-9
    learning = Projected(points=drawn().points.requires_grad_(), prototypes=drawn().prototypes.requires_grad_())
    assert not sinkhorn_offset(learning, TEMPERATURE).requires_grad


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="0 iterations"):
        sinkhorn_offset(drawn(), TEMPERATURE, iterations=0)
    with pytest.raises(ConfigError, match="temperature"):
        sinkhorn_offset(drawn(), 0.0)
    with pytest.raises(ConfigError, match="temperature"):
        teacher_health(drawn(), torch.zeros(PROTOTYPES), -1.0)


def axes_of(chosen, prototypes):
    """Points that lie on the axes; the prototypes are the axes."""
    axes = torch.eye(prototypes)
    return Projected(points=axes[torch.tensor(chosen)], prototypes=axes)


def test_a_teacher_that_is_sure_by_hand():
    """Rows on the axes 0, 0, 0 and 2 of five: no doubt, two of five in use, three quarters on the first."""
    health = teacher_health(axes_of([0, 0, 0, 2], 5), torch.zeros(5), 1e-3, chunk_rows=3)
    assert health.entropy.item() == pytest.approx(0, abs=1e-12)
    assert health.mean_entropy.item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert health.used_prototypes.item() == pytest.approx(2 / 5)
    assert health.largest_share.item() == pytest.approx(3 / 4)


def test_a_teacher_that_says_nothing_by_hand():
    health = teacher_health(axes_of([0, 1, 2, 3], 5), torch.zeros(5), 1e6)
    assert health.entropy.item() == pytest.approx(math.log(5), abs=1e-5)
    assert health.mean_entropy.item() == pytest.approx(math.log(5), abs=1e-5)
    assert health.largest_share.item() == pytest.approx(1 / 5, abs=1e-5)


def test_one_row_of_three_prototypes_by_hand():
    """Probabilities 1/2, 1/4, 1/4 by the offset alone."""
    point = Projected(points=torch.tensor([[0.0, 1.0]]), prototypes=torch.tensor([[1.0, 0.0]] * 3))
    health = teacher_health(point, torch.tensor([math.log(2), 0.0, 0.0]), 0.1)
    assert health.entropy.item() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    assert health.mean_entropy.item() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    assert (health.used_prototypes.item(), health.largest_share.item()) == pytest.approx((1 / 3, 1 / 2))


def test_health_of_a_batch_in_parts_is_that_of_the_whole():
    whole, offset = drawn(), torch.zeros(PROTOTYPES, dtype=torch.float64)
    shared, found = Shared(2), {}

    def work(index):
        part = Projected(points=whole.points[9 * index :][: 9 if index == 0 else None], prototypes=whole.prototypes)
        found[index] = teacher_health(part, offset, TEMPERATURE, add_up=shared.add_up(index))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    expected = vars(teacher_health(whole, offset, TEMPERATURE))
    for health in (found[0], found[1]):
        assert {key: value.item() for key, value in vars(health).items()} == pytest.approx(
            {key: value.item() for key, value in expected.items()}
        )


def test_a_teacher_without_rows_has_no_health():
    health = teacher_health(drawn(0), torch.zeros(PROTOTYPES, dtype=torch.float64), TEMPERATURE)
    assert all(value.isnan() for value in vars(health).values())
