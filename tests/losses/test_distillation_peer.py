"""Values and gradients of lightly 1.6.0's DINOLoss, IBOTPatchLoss, KoLeoLoss and sinkhorn, on waves.

They are numbers written down, since the peer is no dependency. It holds temperatures in fp32 and KoLeo's epsilon in
each coordinate, so that the last digits differ: up to 2e-9.
"""

import pytest
import torch
from torch.nn import functional as F

from apatite.losses.distillation import (
    Projected,
    centre_offset,
    distillation_loss,
    mean_logits,
    sinkhorn_offset,
)
from apatite.losses.koleo import koleo_loss

PROTOTYPES, DIM, BATCH = 13, 5, 3
TEMPERATURES = {"student_temperature": 0.1, "teacher_temperature": 0.05}


def waves(rows, dim, phase):
    places = torch.arange(rows * dim, dtype=torch.float64).reshape(rows, dim)
    return F.normalize(torch.sin(places * places * 0.37 + phase), dim=1)


def projected(rows, phase):
    points, prototypes = waves(rows, DIM, phase), waves(PROTOTYPES, DIM, phase + 0.1)
    return Projected(points=points.requires_grad_(), prototypes=prototypes.requires_grad_())


def chosen(whole, rows):
    return Projected(points=whole.points[torch.tensor(rows)], prototypes=whole.prototypes)


CENTRE = 0.1 * waves(1, PROTOTYPES, 2.0)[0]


def test_dino_of_four_views_of_a_student_and_two_of_its_teacher():
    student, teacher = projected(4 * BATCH, 0.1), projected(2 * BATCH, 0.3)
    pairs = [(own, other) for own in range(4) for other in range(2) if own != other]
    asked = [own * BATCH + sample for own, _ in pairs for sample in range(BATCH)]
    told = [other * BATCH + sample for _, other in pairs for sample in range(BATCH)]
    offset = centre_offset(CENTRE, 0.05)
    loss = distillation_loss(chosen(student, asked), chosen(teacher, told), offset, **TEMPERATURES, chunk_rows=4)
    loss.backward()
    assert loss.item() == pytest.approx(10.13144684643826, abs=5e-9)
    assert student.points.grad.norm().item() == pytest.approx(3.7580197606711176, rel=1e-8)
    assert student.prototypes.grad.norm().item() == pytest.approx(3.947895570557639, rel=1e-8)
    moved = 0.9 * CENTRE + 0.1 * mean_logits(teacher)
    assert moved[[0, 7]].tolist() == pytest.approx([0.03808297012764157, 0.0468737695824018], rel=1e-12)


def test_ibot_of_cells_that_are_hidden_unevenly():
    """Four of the first sample's cells, one of the second's, none of the third's."""
    student, teacher = projected(5, 0.5), projected(5, 0.7)
    weights = torch.tensor([1 / 4] * 4 + [1.0], dtype=torch.float64) / BATCH
    loss = distillation_loss(student, teacher, centre_offset(CENTRE, 0.05), **TEMPERATURES, weights=weights)
    loss.backward()
    assert loss.item() == pytest.approx(0.07024487476004436, abs=5e-9)
    assert student.points.grad.norm().item() == pytest.approx(0.10569941108367567, abs=5e-9)
    assert student.prototypes.grad.norm().item() == pytest.approx(0.14510562070127192, abs=5e-9)


def test_koleo():
    rows = waves(7, 5, 0.9).requires_grad_()
    loss = koleo_loss(rows)
    loss.backward()
    assert loss.item() == pytest.approx(-0.08978375655278632, abs=5e-9)
    assert rows.grad.norm().item() == pytest.approx(0.5009633239214444, abs=5e-9)


def test_sinkhorn():
    """What each prototype has of seventeen rows after three iterations."""
    teacher = projected(17, 1.1)
    offset = sinkhorn_offset(teacher, 0.05, chunk_rows=5)
    shares = (teacher.points @ teacher.prototypes.t() / 0.05 + offset).softmax(dim=1)
    theirs = """1.036836376982 1.984133737385 1.034997157947 1.128426653603 1.000014875387 1.411471992637
    1.297757328164 1.048513984322 1.0415540491 2.250740252299 1.55534850969 1.243166702474 0.967038380012"""
    assert shares.sum(dim=0).tolist() == pytest.approx([float(share) for share in theirs.split()], abs=1e-11)
    assert shares[2, 3].item() == pytest.approx(1.6232560118975778e-07, rel=1e-9)
    assert shares[16, 0].item() == pytest.approx(9.572181791552863e-06, rel=1e-9)
