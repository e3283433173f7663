"""A teacher learns nothing, follows its student by the global step, and sees the clean views."""

from dataclasses import replace

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.batches import Batch
from apatite.nn.attention import AttentionKernel
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.projection import ProjectionConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes, StudentBranch
from apatite.pretrain.methods import METHODS, Method
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.teacher import Teacher

STEPS = 20


def make(method: Method | str, drop_path: float = 0.0, seed: int = 0) -> PretrainTask:
    chosen = METHODS[method] if isinstance(method, str) else method
    encoder = ViTConfig(
        crop=(8, 12, 16), patch=(4, 4, 4), dim=12, depth=2, heads=2, windows_hu=((-100.0, 100.0),), drop_path=drop_path
    )
    shapes = Shapes(
        encoder=encoder,
        projection=ProjectionConfig(prototypes=9, hidden=10, dim=6),
        contrast=ContrastConfig(hidden=10, dim=6),
    )
    torch.manual_seed(seed)
    return PretrainTask(chosen, shapes, AttentionKernel(), seed=1, steps=STEPS)


def batch_for(task: PretrainTask) -> Batch:
    encoder = task.shapes.encoder
    parent = task.method.views.parent_of(encoder.crop, encoder.cell)
    images = 100 * torch.randn(3, 1, *parent, generator=torch.Generator().manual_seed(5))
    return Batch(case_ids=("a", "b", "c"), images_hu=images)


def teacher_of(task: PretrainTask) -> Teacher:
    assert task.teacher is not None
    return task.teacher


def learn(task: PretrainTask, steps: range) -> None:
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-2)
    for step in steps:
        task.train()
        optimizer.zero_grad()
        torch.stack(list(task.losses(batch_for(task), step).values())).sum().backward()
        optimizer.step()
        task.after(step)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    named = dict(other.named_parameters())
    return all(torch.equal(parameter, named[name]) for name, parameter in one.named_parameters())


def test_it_begins_as_its_student_unless_it_was_released_otherwise():
    intended, released = make("smit"), make("smit_released")
    assert same(teacher_of(intended).branch, intended.branches["student"])
    assert not same(teacher_of(released).branch, released.branches["student"])


def test_all_methods_begin_with_the_same_encoder():
    one = make("smit").branches["student"].encoder
    assert isinstance(one, torch.nn.Module)
    for name in ("smit_released", "ibot", "dino", "simmim", "mocov3"):
        other = make(name).branches["student"].encoder
        assert isinstance(other, torch.nn.Module)
        assert same(one, other), name


def test_it_has_no_token_for_what_is_hidden_and_no_head_for_voxels():
    names = {name.partition(".")[0] for name, _ in teacher_of(make("smit")).branch.named_parameters()}
    assert names == {"encoder", "norm", "project_cells", "project_views"}


@pytest.mark.parametrize("name", ["smit", "smit_released", "ibot", "dino", "dinov2", "dinov3", "mocov3", "smit_twins"])
def test_no_gradient_reaches_a_teacher_an_anchor_or_a_centre(name):
    task = make(name)
    for step in (0, STEPS - 1):
        torch.stack(list(task.losses(batch_for(task), step).values())).sum().backward()
    teacher = teacher_of(task)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert not any(buffer.requires_grad for buffer in teacher.buffers())


def test_it_moves_by_the_momentum_of_the_global_step():
    task = make("smit")
    student, branch = task.branches["student"], teacher_of(task).branch
    learn(task, range(1))
    before = {name: value.clone() for name, value in branch.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    task.after(13)
    momentum = teacher_of(task).teaching.momentum_at(13, STEPS)
    wanted = dict(student.named_parameters())
    for name, value in branch.named_parameters():
        torch.testing.assert_close(value, momentum * before[name] + (1 - momentum) * wanted[name], msg=name)


def test_centres_follow_the_mean_logits_after_the_step_and_not_before():
    task = make("smit")
    teacher, batch = teacher_of(task), batch_for(task)
    centres = {name: centring.centre for name, centring in teacher.centrings.items()}
    task.eval()
    task.losses(batch, 0)
    assert not any(centre.any() for centre in centres.values())
    seen = teacher.branch.look(task.view(batch, 0).clean())
    cells, views = seen.all_cells, seen.views
    assert len(cells.points) == 6 * 24, "all cells of both views, hidden or not"
    task.after(0)
    torch.testing.assert_close(centres["cells"], 0.1 * (cells.points @ cells.prototypes.T).mean(0))
    torch.testing.assert_close(centres["views"], 0.1 * (views.points @ views.prototypes.T).mean(0))
    kept = centres["cells"].clone()
    task.after(1)  # nothing was seen since
    assert torch.equal(centres["cells"], kept)


def test_looking_at_it_changes_nothing():
    task = make("smit")
    learn(task, range(2))
    state = {name: value.clone() for name, value in task.state_dict().items()}
    task.eval()
    view = task.view(batch_for(task), 3)
    teacher_of(task).taught(view, 3)
    task.look(batch_for(task), 3)
    assert all(torch.equal(value, state[name]) for name, value in task.state_dict().items())


def test_it_sees_everything():
    task = make("smit")
    batch = batch_for(task)
    view = task.view(batch, 4)
    hidden = teacher_of(task).taught(view, 4).cells
    shown = teacher_of(task).taught(view.clean(), 4).cells
    assert hidden is not None
    assert shown is not None
    assert torch.equal(hidden.projected.points, shown.projected.points)


def test_it_drops_no_paths_unless_its_rules_say_so():
    for name, is_noisy in (("smit", False), ("smit_released", True)):
        task = make(name, drop_path=0.5)
        task.train()
        view = task.view(batch_for(task), 0)
        told = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            cells = teacher_of(task).taught(view, 0).cells
            assert cells is not None
            told.append(cells.projected.points)
        assert torch.equal(*told) is not is_noisy


def test_prototypes_rest_in_the_first_steps():
    method = METHODS["smit"]
    assert method.teaching is not None
    task = make(replace(method, teaching=replace(method.teaching, frozen_share=0.1)))
    for step, learns in ((0, False), (1, False), (2, True)):
        task.zero_grad()
        torch.stack(list(task.losses(batch_for(task), step).values())).sum().backward()
        prototypes = [p for name, p in task.named_parameters() if "prototypes" in name and p.requires_grad]
        assert len(prototypes) == 2
        assert all((p.grad is not None) is learns for p in prototypes)


def test_an_anchor_is_the_teacher_of_an_earlier_step():
    task = make("dinov3")
    teacher = teacher_of(task)
    assert teacher.anchor is not None
    learn(task, range(3))  # every tenth of the run: after steps 1, 3, 5 and so on
    assert not same(teacher.anchor, teacher.branch)
    learn(task, range(3, 4))
    assert same(teacher.anchor, teacher.branch)
    assert not teacher.anchor.training


def test_a_method_whose_terms_ask_nobody_is_refused():
    method = METHODS["smit"]
    with pytest.raises(ConfigError, match="teacher"):
        make(replace(method, teaching=None))
    with pytest.raises(ConfigError, match="no term asks"):
        make(replace(METHODS["simmim"], teaching=method.teaching))


def test_one_head_serves_cells_and_views_where_it_is_shared():
    task = make("ibot")
    student = task.branches["student"]
    assert isinstance(student, StudentBranch)
    assert student.project_views is None
    assert student.heads.views is not None
    assert set(teacher_of(task).centrings) == {"cells", "views"}


def test_sinkhorn_gives_each_prototype_as_much_and_keeps_nothing():
    task = make("dinov2")
    teacher = teacher_of(task)
    assert not list(teacher.centrings.buffers())
    view = task.view(batch_for(task), 0)
    views = teacher.taught(view, 0).views
    assert views is not None
    logits = views.projected.points @ views.projected.prototypes.T / views.temperature + views.offset
    shares = logits.softmax(1).sum(0)
    plain = (logits - views.offset).softmax(1).sum(0)
    assert shares.std() < 0.5 * plain.std()
