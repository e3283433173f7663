"""The chunked loss against the plain formula; DINO's and iBOT's losses from their formulas; what is never made."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from apatite.core.errors import ConfigError
from apatite.losses.distillation import Projected, centre_offset, distillation_loss, mean_logits, teacher_health

ROWS, PROTOTYPES, DIM = 37, 19, 6
TEMPERATURES = {"student_temperature": 0.1, "teacher_temperature": 0.04}


def drawn(rows=ROWS, prototypes=PROTOTYPES, dim=DIM, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points, directions = (torch.randn(count, dim, generator=generator, dtype=dtype) for count in (rows, prototypes))
    return Projected(points=F.normalize(points, dim=1), prototypes=F.normalize(directions, dim=1))


def leaves(projected, dtype=None):
    points, prototypes = (each.to(dtype or each.dtype).detach().clone().requires_grad_() for each in parts(projected))
    return Projected(points=points, prototypes=prototypes)


def parts(projected):
    return projected.points, projected.prototypes


def plain_rows(student, teacher, offset, student_temperature, teacher_temperature):
    """Cross-entropy of each row, all logits at once."""
    wanted = (teacher.points @ teacher.prototypes.t() / teacher_temperature + offset).softmax(dim=1)
    found = (student.points @ student.prototypes.t() / student_temperature).log_softmax(dim=1)
    return -(wanted.detach() * found).sum(dim=1)


def offset_of(prototypes=PROTOTYPES, seed=3):
    return torch.randn(prototypes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Watch(TorchDispatchMode):
    """Every operation and the largest tensor that one makes."""

    def __init__(self):
        super().__init__()
        self.operations, self.largest = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.operations.append(func.overloadpacket.__name__)
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, torch.Tensor):
                self.largest = max(self.largest, each.numel())
        return made

    def count(self, *names):
        return sum(operation in names for operation in self.operations)


@pytest.mark.parametrize(
    ("dtype", "near", "is_weighted"),
    [(torch.float64, 1e-10, False), (torch.float64, 1e-10, True), (torch.float32, 1e-5, True)],
)
def test_value_and_gradients_are_those_of_the_plain_formula(dtype, near, is_weighted):
    student, teacher, offset = drawn(), drawn(seed=1), offset_of()
    weights = torch.rand(ROWS, dtype=torch.float64) if is_weighted else None
    ours, exact = leaves(student, dtype), leaves(student)
    loss = distillation_loss(
        ours,
        Projected(points=teacher.points.to(dtype), prototypes=teacher.prototypes.to(dtype)),
        offset.to(dtype),
        **TEMPERATURES,
        weights=None if weights is None else weights.to(dtype),
        chunk_rows=8,
    )
    rows = plain_rows(exact, teacher, offset, *TEMPERATURES.values())
    expected = rows.mean() if weights is None else (weights * rows).sum()
    (3 * loss).backward()
    (3 * expected).backward()
    assert loss.dtype == dtype
    assert abs(loss.item() - expected.item()) < near * max(1, abs(expected.item()))
    for found, wanted in zip(parts(ours), parts(exact), strict=True):
        assert (found.grad - wanted.grad).abs().max() < near * max(1, wanted.grad.abs().max().item())


def test_gradient_against_finite_differences():
    student, teacher, offset = drawn(5, 7, 3), drawn(5, 7, 3, seed=1), offset_of(7)
    weights = torch.rand(5, dtype=torch.float64)

    def loss(points, prototypes):
        found = Projected(points=points, prototypes=prototypes)
        return distillation_loss(found, teacher, offset, **TEMPERATURES, weights=weights, chunk_rows=2)

    assert torch.autograd.gradcheck(loss, parts(leaves(student)))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 20), chunk_rows=st.integers(1, 25), seed=st.integers(0, 99))
def test_chunks_change_nothing(rows, chunk_rows, seed):
    found = []
    for size in (chunk_rows, 1000):
        student, teacher = leaves(drawn(rows, seed=seed)), drawn(rows, seed=seed + 1)
        loss = distillation_loss(student, teacher, offset_of(), **TEMPERATURES, chunk_rows=size)
        loss.backward()
        found.append((loss.detach(), student.points.grad, student.prototypes.grad))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*found, strict=True))


def test_no_rows_are_exactly_nothing():
    student = leaves(drawn(0))
    loss = distillation_loss(student, drawn(0, seed=1), offset_of(), **TEMPERATURES)
    loss.backward()
    assert loss.item() == 0
    assert student.points.grad.shape == (0, DIM)
    assert not student.prototypes.grad.any()


@pytest.mark.parametrize(("student_temperature", "teacher_temperature"), [(1e-4, 1e-5), (1e-6, 0.04), (0.1, 1e-8)])
def test_tiny_temperatures_stay_finite_and_right(student_temperature, teacher_temperature):
    student, teacher = leaves(drawn(), torch.float32), drawn(seed=1)
    given = Projected(points=teacher.points.float(), prototypes=teacher.prototypes.float())
    temperatures = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
    loss = distillation_loss(student, given, offset_of().float(), **temperatures)
    loss.backward()
    exact = plain_rows(drawn(), teacher, offset_of(), *temperatures.values()).mean()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)
    assert all(each.grad.isfinite().all() for each in parts(student))


def test_sixteen_bits_are_worked_on_in_thirty_two_also_under_autocast():
    student, teacher = leaves(drawn(), torch.bfloat16), drawn(seed=1, dtype=torch.float32)
    exactly = leaves(Projected(points=student.points.float(), prototypes=student.prototypes.float()))
    expected = distillation_loss(exactly, teacher, offset_of().float(), **TEMPERATURES)
    expected.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distillation_loss(student, teacher, offset_of().float(), **TEMPERATURES)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()
    for found, wanted in zip(parts(student), parts(exactly), strict=True):
        assert torch.equal(found.grad, wanted.grad.bfloat16())


def test_nothing_as_large_as_all_logits_is_made_and_the_way_back_only_scales():
    rows, prototypes, dim, chunk_rows = 300, 700, 16, 32
    student, teacher = leaves(drawn(rows, prototypes, dim)), drawn(rows, prototypes, dim, seed=1)
    kept = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t),
        Watch() as forward,
    ):
        loss = distillation_loss(student, teacher, offset_of(prototypes), **TEMPERATURES, chunk_rows=chunk_rows)
    with Watch() as backward:
        loss.backward()
    assert max(forward.largest, backward.largest) == chunk_rows * prototypes < rows * prototypes / 9
    assert sum(kept) == (rows + prototypes) * dim
    chunks = math.ceil(rows / chunk_rows)
    assert forward.count("mm", "addmm", "addmm_") == 4 * chunks
    assert backward.count("mm", "addmm", "addmm_", "_softmax", "exp_") == 0
    # What reads a number off a device, or an unknown count of them, waits for it.
    assert forward.count("_local_scalar_dense", "nonzero") == backward.count("_local_scalar_dense", "nonzero") == 0


def test_what_has_no_gradient_costs_none():
    student, teacher = leaves(drawn()), drawn(seed=1)
    frozen = Projected(points=student.points, prototypes=student.prototypes.detach())
    with Watch() as watch:
        distillation_loss(frozen, teacher, offset_of(), **TEMPERATURES).backward()
    assert watch.count("mm", "addmm", "addmm_") == 3
    assert student.prototypes.grad is None
    expected = leaves(drawn())
    distillation_loss(expected, teacher, offset_of(), **TEMPERATURES).backward()
    assert torch.equal(student.points.grad, expected.points.grad)
    with torch.no_grad(), Watch() as watch:
        assert not distillation_loss(student, teacher, offset_of(), **TEMPERATURES).requires_grad
    assert watch.count("mm", "addmm", "addmm_") == 2


def test_no_gradient_reaches_the_teacher_the_offset_or_the_weights():
    teacher, offset = leaves(drawn(seed=1)), offset_of().requires_grad_()
    weights = torch.rand(ROWS, dtype=torch.float64, requires_grad=True)
    distillation_loss(leaves(drawn()), teacher, offset, **TEMPERATURES, weights=weights).backward()
    assert all(each.grad is None for each in (*parts(teacher), offset, weights))


def test_dino_and_ibot_from_their_formulas():
    """Two views of three samples of five cells, hidden unevenly; each sample counts alike, whatever is hidden of it."""
    views, batch, cells, centre = 2, 3, 5, 0.05 * offset_of()
    prototypes = {name: drawn(1, seed=seed).prototypes for seed, name in enumerate(("student", "teacher"))}
    points = {name: drawn(views * batch * cells, seed=5 + n).points for n, name in enumerate(("student", "teacher"))}
    is_hidden = torch.rand(views, batch, cells, generator=torch.Generator().manual_seed(7)) < 0.6
    is_hidden[1, 2] = False
    logits = {name: (points[name] @ prototypes[name].t()).reshape(views, batch, cells, -1) for name in points}

    def entropy(wanted, found):
        p, q = ((wanted - centre) / 0.04).softmax(dim=-1), (found / 0.1).softmax(dim=-1)
        return -(p * q.log()).sum(dim=-1)

    ibot = torch.zeros(())
    for view, sample in product(range(views), range(batch)):
        hidden = is_hidden[view, sample]
        per_cell = entropy(logits["teacher"][view, sample], logits["student"][view, sample])
        ibot = ibot + (per_cell * hidden).sum() / max(1, hidden.sum()) / batch / views
    # As if the first cell of each were the pooled vector.
    one, other = (entropy(logits["teacher"][v, :, 0], logits["student"][1 - v, :, 0]).mean() for v in range(views))

    weights = (is_hidden / is_hidden.sum(dim=2, keepdim=True).clamp(min=1) / batch / views)[is_hidden].double()
    rows = {name: points[name].reshape(views, batch, cells, -1)[is_hidden] for name in points}
    found = [Projected(points=rows[name], prototypes=prototypes[name]) for name in ("student", "teacher")]
    offset = centre_offset(centre, 0.04)
    assert distillation_loss(*found, offset, **TEMPERATURES, weights=weights).item() == pytest.approx(ibot.item())

    pooled = {name: points[name].reshape(views, batch, cells, -1)[:, :, 0] for name in points}
    student = Projected(points=pooled["student"].flatten(0, 1), prototypes=prototypes["student"])
    crossed = Projected(points=pooled["teacher"].flip(0).flatten(0, 1), prototypes=prototypes["teacher"])
    dino = (one + other) / 2
    assert distillation_loss(student, crossed, offset, **TEMPERATURES).item() == pytest.approx(dino.item())


def test_a_student_that_is_its_teacher_pays_the_teachers_entropy():
    """Identical clean views, copied weights, equal temperatures, no centre: the least that can be paid."""
    same, nothing = drawn(), torch.zeros(PROTOTYPES, dtype=torch.float64)
    loss = distillation_loss(leaves(same), same, nothing, student_temperature=0.07, teacher_temperature=0.07)
    assert loss.item() == pytest.approx(teacher_health(same, nothing, 0.07).entropy.item(), abs=1e-12)
    gradient = torch.autograd.grad(
        distillation_loss(found := leaves(same), same, nothing, student_temperature=0.07, teacher_temperature=0.07),
        found.points,
    )[0]
    assert gradient.abs().max() < 1e-12


def test_mean_of_the_logits_without_the_logits():
    projected = drawn()
    expected = (projected.points @ projected.prototypes.t()).mean(dim=0)
    with Watch() as watch:
        assert torch.allclose(mean_logits(projected), expected, atol=1e-14)
    assert watch.largest <= PROTOTYPES
    centred = projected.points @ projected.prototypes.t() - expected
    assert torch.allclose(
        (projected.points @ projected.prototypes.t() / 0.04 + centre_offset(expected, 0.04)), centred / 0.04
    )


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        distillation_loss(drawn(), drawn(), offset_of(), student_temperature=0.1, teacher_temperature=temperature)


@pytest.mark.parametrize("rows", [1, ROWS + 1])
def test_rows_that_belong_to_none_are_not_left_out(rows):
    with pytest.raises(AssertionError, match="belongs"):
        distillation_loss(drawn(), drawn(rows), offset_of(), **TEMPERATURES)
