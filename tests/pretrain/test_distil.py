"""Terms of self-distillation by hand: who is compared with whom, on which rows, with which weight."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from apatite.core.types import Projected
from apatite.data.hiding import Hidden
from apatite.pretrain.distil import CrossViews, HiddenCells, KoLeo, TwinCells, cell_weights
from apatite.pretrain.term import TermSettings
from apatite.pretrain.view import Heads, Seen, Target, Taught, View

WINDOWS = ((-100.0, 200.0),)
CELLS = (1, 2, 3)
NUM_CELLS, DIM, K = 6, 4, 5
PROTOTYPES = F.normalize(torch.randn(K, DIM, generator=torch.Generator().manual_seed(0)), dim=1)
SETTINGS = TermSettings(student_temperature=0.2)


def on_sphere(rows: torch.Tensor) -> Projected:
    return Projected(points=F.normalize(rows, dim=-1), prototypes=PROTOTYPES)


def target(rows: torch.Tensor) -> Target:
    return Target(projected=on_sphere(rows), offset=torch.linspace(-1, 1, K), temperature=0.1)


def view_of(is_hidden: torch.Tensor, num_views: int = 2, starts: torch.Tensor | None = None) -> View:
    patches = torch.zeros(len(is_hidden), NUM_CELLS, 8)
    hiding = Hidden(is_hidden=is_hidden)
    return View(patches=patches, hiding=hiding, tokens=CELLS, patch=(2, 2, 2), num_views=num_views, starts=starts)


def seen_of(view: View, tokens: torch.Tensor, taught: Taught, local: Seen | None = None) -> Seen:
    return Seen(
        view=view,
        features=tokens,
        tokens=tokens,
        heads=Heads(cells=on_sphere, views=on_sphere),
        taught=taught,
        local=local,
    )


def cross_entropy(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Of one row, by the formula."""
    told = (F.normalize(teacher, dim=0) @ PROTOTYPES.T / 0.1 + torch.linspace(-1, 1, K)).softmax(0)
    said = (F.normalize(student, dim=0) @ PROTOTYPES.T / 0.2).log_softmax(0)
    return -(told * said).sum()


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_mpd_compares_hidden_cells_with_the_same_cells_of_the_same_view(draw):
    # Views 0 and 1 of two samples; one view hides one cell, one none, one three, one all.
    is_hidden = torch.zeros(4, NUM_CELLS, dtype=torch.bool)
    is_hidden[0, 2] = is_hidden[2, 0] = is_hidden[2, 4] = is_hidden[2, 5] = True
    is_hidden[3] = True
    student, teacher = torch.randn(2, 4, NUM_CELLS, DIM, generator=draw)
    found = HiddenCells(WINDOWS, SETTINGS).loss(
        seen_of(view_of(is_hidden), student, Taught(cells=target(teacher.flatten(0, 1))))
    )
    by_view = []
    for row in range(4):
        cells = [cross_entropy(teacher[row, cell], student[row, cell]) for cell in range(6) if is_hidden[row, cell]]
        by_view.append(torch.stack(cells).mean() if cells else torch.tensor(0.0))
    torch.testing.assert_close(found, torch.stack(by_view).mean())


def test_itd_compares_each_view_with_the_other_views_of_the_same_sample(draw):
    is_hidden = torch.rand(6, NUM_CELLS, generator=draw) < 0.5
    student, teacher = torch.randn(2, 6, NUM_CELLS, DIM, generator=draw)
    taught = Taught(views=target(teacher.mean(1)))
    found = CrossViews(WINDOWS, SETTINGS).loss(seen_of(view_of(is_hidden), student, taught))
    # Three samples: row v·3 + b is view v of sample b.
    pairs = [(0, 3), (1, 4), (2, 5), (3, 0), (4, 1), (5, 2)]
    wanted = torch.stack([cross_entropy(teacher[there].mean(0), student[here].mean(0)) for here, there in pairs]).mean()
    torch.testing.assert_close(found, wanted)
    # What is hidden acts through the input alone: another mask in the loss changes nothing.
    other = CrossViews(WINDOWS, SETTINGS).loss(seen_of(view_of(~is_hidden), student, taught))
    assert torch.equal(found, other)


def test_itd_compares_local_views_with_every_global_one(draw):
    student, teacher = torch.randn(2, 4, NUM_CELLS, DIM, generator=draw)
    small = torch.randn(6, 2, DIM, generator=draw)  # three local views of two samples
    shown = torch.zeros(6, 2, dtype=torch.bool)
    local_view = View(
        patches=torch.zeros(6, 2, 8), hiding=Hidden(is_hidden=shown), tokens=(1, 1, 2), patch=(2, 2, 2), num_views=3
    )
    local = Seen(view=local_view, features=small, tokens=small, heads=Heads(views=on_sphere))
    nothing = torch.zeros(4, NUM_CELLS, dtype=torch.bool)
    taught = Taught(views=target(teacher.mean(1)))
    found = CrossViews(WINDOWS, SETTINGS).loss(seen_of(view_of(nothing), student, taught, local))
    pairs = [(student[v * 2 + b], teacher[(1 - v) * 2 + b]) for v in range(2) for b in range(2)]
    pairs += [(small[v * 2 + b], teacher[t * 2 + b]) for v in range(3) for b in range(2) for t in range(2)]
    wanted = torch.stack([cross_entropy(there.mean(0), here.mean(0)) for here, there in pairs]).mean()
    torch.testing.assert_close(found, wanted)


def test_itd_of_identical_clean_views_is_the_entropy_of_the_teacher(draw):
    one = torch.randn(3, NUM_CELLS, DIM, generator=draw)
    both = torch.cat([one, one])
    settings = TermSettings(student_temperature=0.1)
    told = Target(projected=on_sphere(both.mean(1)), offset=torch.zeros(K), temperature=0.1)
    nothing = torch.zeros(6, NUM_CELLS, dtype=torch.bool)
    found = CrossViews(WINDOWS, settings).loss(seen_of(view_of(nothing), both, Taught(views=told)))
    logits = F.normalize(one.mean(1), dim=1) @ PROTOTYPES.T / 0.1
    torch.testing.assert_close(found, torch.distributions.Categorical(logits=logits).entropy().mean())


def test_twins_are_the_cells_of_the_other_view_that_show_the_same_voxels(draw):
    # View 1 of the first sample lies one cell further along the width, that of the second one half a cell.
    starts = torch.tensor([[[0, 0, 0], [0, 0, 0]], [[0, 0, 2], [0, 0, 1]]])
    is_hidden = torch.zeros(4, NUM_CELLS, dtype=torch.bool)
    is_hidden[:, [0, 1, 5]] = True
    student, teacher = torch.randn(2, 4, NUM_CELLS, DIM, generator=draw)
    view = view_of(is_hidden, starts=starts)
    found = TwinCells(WINDOWS, SETTINGS).loss(seen_of(view, student, Taught(cells=target(teacher.flatten(0, 1)))))
    # Cells of 1×2×3: cell c of view 0 shows what cell c − 1 of view 1 shows, within a row of three.
    first = torch.stack(
        [cross_entropy(teacher[2, 0], student[0, 1]), cross_entropy(teacher[2, 4], student[0, 5])]
    ).mean()
    second = torch.stack(
        [cross_entropy(teacher[0, 1], student[2, 0]), cross_entropy(teacher[0, 2], student[2, 1])]
    ).mean()
    torch.testing.assert_close(found, (first + second) / 4)


def test_views_without_a_twin_cost_nothing_and_have_a_gradient(draw):
    starts = torch.tensor([[[0, 0, 0]], [[1, 0, 0]]])
    student, teacher = torch.randn(2, 2, NUM_CELLS, DIM, generator=draw)
    student.requires_grad_()
    view = view_of(torch.ones(2, NUM_CELLS, dtype=torch.bool), starts=starts)
    found = TwinCells(WINDOWS, SETTINGS).loss(seen_of(view, student, Taught(cells=target(teacher.flatten(0, 1)))))
    found.backward()
    assert found == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_cells_are_averaged_in_each_view_and_then_the_views():
    is_asked = torch.tensor([[True, True, False], [False, False, False], [False, True, False]])
    weights = cell_weights(is_asked)[is_asked]
    torch.testing.assert_close(weights, torch.tensor([1 / 6, 1 / 6, 1 / 3]))


def test_neighbours_of_koleo_are_the_same_view_of_other_samples():
    # Two views of a sample are equal, which would be minus the logarithm of nothing if they were neighbours.
    tokens = torch.eye(4)[:2].repeat(2, 1)[:, None].expand(-1, NUM_CELLS, -1)
    view = view_of(torch.zeros(4, NUM_CELLS, dtype=torch.bool))
    found = KoLeo(WINDOWS, TermSettings()).loss(replace(seen_of(view, tokens, Taught()), taught=None))
    # Each view's two samples lie √2 apart; the views are added up.
    torch.testing.assert_close(found, -2 * torch.tensor(2**0.5 + 1e-8).log())
