"""The sides of the benchmark of self-distillation do the same work, and its limit counts what is done."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from apatite.data.batches import Batch
from distillation import SIZES, learned_by_a_teacher, our_heads, our_step, our_task, released_heads, released_step
from distillation_peers import (
    Released,
    Tokens,
    every_cell_step,
    follow_by_name,
    lightly_parts,
    lightly_step,
    token_losses,
)
from smit_reference import Centres, Looked, Network, Rules, Shape, Temperatures, Views, follow, smit_step, total
from swin_limits import encoder_work, head_work, voxels_work

SHAPE = Shape(
    channels=2,
    patch=(1, 2, 2),
    dim=12,
    heads=(2, 2, 2, 2),
    window=(2, 2, 2),
    prototypes=40,
    head_hidden=32,
    head_dim=16,
)
EDGES = (16, 16, 32)
CELLS = 4


@pytest.fixture
def released() -> Released:
    torch.manual_seed(0)
    return Released(SHAPE, Rules())


def drawn_views() -> Views:
    draw = torch.Generator().manual_seed(1)
    images = [torch.rand(2, 2, *EDGES, generator=draw) * 2 - 1 for _ in range(2)]
    return Views(images=images, is_hidden=[torch.rand(2, CELLS, generator=draw) < 0.7 for _ in range(2)])


def test_the_released_order_gives_the_plain_losses_and_gradients(released):
    views, centres = drawn_views(), Centres.zero(SHAPE)
    plain, teacher = copy.deepcopy(released.student), copy.deepcopy(released.teacher)
    for _ in range(2):
        terms, taught = smit_step(plain, teacher, views, centres, Temperatures())
        wanted = total(terms, plain.rules)
        plain.zero_grad()
        wanted.backward()
        centres.follow(taught)
        follow(teacher, plain, 0.9)
        made = released.step(torch.cat(views.images), torch.cat(views.is_hidden), momentum=0.9)
        assert float(made) == pytest.approx(float(wanted.detach()), rel=1e-5)
        for (name, ours), theirs in zip(plain.named_parameters(), released.student.parameters(), strict=True):
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6), name
        assert torch.allclose(centres.cells, released.centres.cells, atol=1e-6)
        assert torch.allclose(centres.whole, released.centres.whole, atol=1e-6)
        with torch.no_grad():
            for weight, other in zip(plain.parameters(), released.student.parameters(), strict=True):
                other.copy_(weight.add_(0.01 * torch.randn_like(weight)))


def test_both_moving_averages_are_the_same(released):
    with torch.no_grad():
        for weight in released.student.parameters():
            weight.add_(1.0)
    by_name, by_order = copy.deepcopy(released.teacher), copy.deepcopy(released.teacher)
    follow_by_name(by_name, released.student, 0.75)
    follow(by_order, released.student, 0.75)
    for first, ours, theirs in zip(
        released.teacher.parameters(), by_name.parameters(), by_order.parameters(), strict=True
    ):
        assert torch.allclose(ours, first + 0.25, atol=1e-6)
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_both_sides_of_the_benchmark_have_as_many_weights_and_hidden_cells():
    task, size = our_task("toy", by_onednn=False), SIZES["toy"]
    peer = Released(size.peer(), Rules(tap="stage4"))
    student = task.branches["student"]
    norms = sum(weight.numel() for weight in student.encoder.norms.parameters())  # of the skips, which nothing reads
    assert _numbers(student) - norms == _numbers(peer.student)
    # A released teacher also has the token and the layer to voxels, of which it makes no use.
    unused = _numbers(peer.teacher.to_voxels) + peer.teacher.hidden_token.numel()
    assert learned_by_a_teacher("toy") - norms == _numbers(peer.teacher) - unused
    assert (size.encoder().num_tokens, size.hidden) == (8, 6)
    parent = 3 * (48,)
    images = torch.zeros(size.batch, 1, *parent)
    view = task.view(Batch(case_ids=("a", "b"), images_hu=images), 0)
    assert view.is_hidden.sum(dim=1).tolist() == [size.hidden] * 4


def test_a_step_of_either_side_starts_at_the_same_loss():
    ours, theirs = our_step("toy", False)(), released_step("toy")()
    # Networks and images are drawn anew; what is left of them in fresh losses is small.
    assert float(ours) == pytest.approx(float(theirs), rel=0.3)
    assert float(our_heads("toy", False)()) == pytest.approx(float(released_heads("toy")()), rel=0.3)


def _numbers(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_the_limit_counts_the_operations_of_the_encoder_and_the_heads():
    network, image = Network(SHAPE, Rules(tap="stage4")), torch.rand(1, 2, *EDGES)
    for work, layers in (
        (encoder_work(SHAPE, EDGES), lambda: network.maps(image, None)),
        (head_work(SHAPE, 7, 7), lambda: network.cell_head(torch.rand(7, 96))),
        (voxels_work(SHAPE, EDGES), lambda: network.to_voxels(torch.rand(1, 1, 1, 1, 192))),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layers()
        assert work.flops == counter.get_total_flops()


def test_the_published_encoder_has_the_published_size():
    # 8.76 million; the norms of the skips and the token of hidden cells stand beside it.
    network = Network(Shape(prototypes=2, head_hidden=2, head_dim=2), Rules())
    assert sum(weight.numel() for weight in network.swin.parameters()) == 8_762_344


def test_drawn_tokens_hide_as_many_cells_in_every_view():
    tokens = Tokens.drawn(views=4, cells=216, width=8, hidden=152)
    assert tokens.is_hidden.sum(dim=1).tolist() == [152] * 4
    assert not torch.equal(tokens.is_hidden[0], tokens.is_hidden[1])


@pytest.mark.filterwarnings("ignore")  # lightly's and torchvision's own
def test_lightly_has_the_same_losses():
    try:
        dino_loss, patch_loss, _ = lightly_parts()
    except ImportError as error:
        pytest.skip(f"lightly: {error}")
    draw = torch.Generator().manual_seed(0)
    seen, taught = (
        Looked(
            cells=torch.rand(4, 6, 40, generator=draw) * 2 - 1,
            whole=torch.rand(4, 40, generator=draw) * 2 - 1,
            deep=torch.zeros(4),
        )
        for _ in range(2)
    )
    is_hidden = torch.rand(4, 6, generator=draw) < 0.6
    at = Temperatures(cells=0.05, whole=0.06)
    cells, whole = token_losses(seen, taught, is_hidden, Centres.zero(SHAPE), at)
    theirs = patch_loss(output_dim=40)(
        taught.cells[is_hidden], seen.cells[is_hidden], is_hidden[..., None], teacher_temp=at.cells
    )
    assert float(theirs) == pytest.approx(float(cells), rel=1e-5)
    views = [list(look.whole.chunk(2)) for look in (taught, seen)]
    assert float(dino_loss(output_dim=40)(*views, teacher_temp=at.whole)) == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_lightly_learns_from_every_view():
    tokens = Tokens.drawn(views=4, cells=6, width=96, hidden=4)
    try:
        step = lightly_step(SHAPE, tokens)
    except ImportError as error:
        pytest.skip(f"lightly: {error}")
    assert step().isfinite()
    assert tokens.student.grad is not None
    assert tokens.student.grad.any(dim=2).all()


def test_a_visible_cell_counts_through_the_mean_of_its_view_alone():
    tokens = Tokens.drawn(views=4, cells=6, width=96, hidden=4)
    assert every_cell_step(SHAPE, tokens)().isfinite()
    assert tokens.student.grad is not None
    for gradients, is_hidden in zip(tokens.student.grad, tokens.is_hidden, strict=True):
        visible = gradients[~is_hidden]
        assert bool(visible.any())
        assert torch.allclose(visible, visible[:1].expand_as(visible), atol=1e-8)
        assert not torch.allclose(gradients[is_hidden], visible[:1].expand(int(is_hidden.sum()), -1), atol=1e-6)
