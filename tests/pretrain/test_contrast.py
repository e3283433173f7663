"""Contrast and rotation as methods: what reaches which term, and what learns."""

import math

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.batches import Batch
from apatite.losses.contrast import contrastive_loss
from apatite.nn.attention import AttentionKernel
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.term import TermSettings

SMALL = ContrastConfig(hidden=16, dim=8, temperature=0.3)


def task_of(method: str, crop=(8, 12, 12)) -> PretrainTask:
    torch.manual_seed(0)
    shapes = Shapes(encoder=ViTConfig(crop=crop, patch=(4, 4, 4), dim=24, depth=2, heads=2), contrast=SMALL)
    settings = TermSettings(contrast=SMALL)
    return PretrainTask(METHODS[method], shapes, AttentionKernel(), 3, steps=10, settings=settings)


def batch_of(samples: int, edges=(12, 16, 16)) -> Batch:
    images = 200 * torch.randn(samples, 1, *edges, generator=torch.Generator().manual_seed(5))
    return Batch(case_ids=tuple(map(str, range(samples))), images_hu=images)


def test_queries_are_the_students_and_keys_the_teachers():
    task, batch = task_of("mocov3"), batch_of(3)
    assert task.teacher is not None
    with torch.no_grad():
        for parameter in task.teacher.branch.parameters():
            parameter.mul_(1.3)  # or nothing would tell it from its student
    view = task.view(batch, 4)
    queries = task.branch("student").look(view).made_contrast().queries
    keys = task.teacher.branch.look(view).made_contrast().keys
    assert view.num_views == 2
    assert queries.shape == keys.shape == (2, 3, 8)
    assert not view.is_hidden.any()
    wanted = contrastive_loss(queries, keys, SMALL.temperature)
    assert task.losses(batch, 4)["contrast"].item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_teacher_gets_no_gradient_and_the_student_all_but_what_follows_its_tap():
    task = task_of("mocov3")
    task.losses(batch_of(3), 0)["contrast"].backward()
    assert task.teacher is not None
    assert all(parameter.grad is None for parameter in task.teacher.parameters())
    idle = {name for name, parameter in task.branches["student"].named_parameters() if parameter.grad is None}
    assert idle == {"encoder.transformer.norm.weight", "encoder.transformer.norm.bias"}


def test_a_batch_of_one_is_refused():
    with pytest.raises(ConfigError, match="batch of at least 2"):
        task_of("mocov3").losses(batch_of(1), 0)


def test_the_answer_is_by_how_much_each_view_was_turned():
    task, batch = task_of("rotation"), batch_of(6, (8, 12, 12))
    view = task.view(batch, 2)
    assert view.turns is not None
    turned = [
        image.rot90(int(turn), dims=(-2, -1))
        for image, turn in zip(task.windows(batch.images_hu), view.turns, strict=True)
    ]
    torch.testing.assert_close(view.image(), torch.stack(turned))
    assert len(set(view.turns.tolist())) > 1
    logits = task.branch("student").look(view).made_turns()
    wanted = -logits.log_softmax(1).gather(1, view.turns[:, None]).mean()
    assert task.losses(batch, 2)["rotation"].item() == pytest.approx(wanted.item(), rel=1e-6)
    assert wanted.item() == pytest.approx(math.log(4), rel=0.1)


def test_a_view_that_cannot_be_turned_is_refused():
    with pytest.raises(ConfigError, match="turned"):
        task_of("rotation", crop=(8, 12, 16))


def mean_of_the_last_losses(task: PretrainTask, images_hu: torch.Tensor) -> float:
    """Of ten draws that were learned four times each."""
    batch = Batch(case_ids=tuple(map(str, range(len(images_hu)))), images_hu=images_hu)
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(40):
        (loss,) = task.losses(batch, step % 10).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.after(step % 10)
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_contrast_learns_to_tell_shades_apart():
    shade = torch.tensor([-300.0, 0.0, 300.0, 500.0])[:, None, None, None, None]
    images = shade + 30 * torch.randn(4, 1, 12, 16, 16, generator=torch.Generator().manual_seed(1))
    assert mean_of_the_last_losses(task_of("mocov3"), images) < 0.6 * 4 * SMALL.temperature * math.log(4)


def test_rotation_learns_which_side_is_bright():
    ramp = 25 * torch.arange(12.0)[:, None].expand(4, 1, 8, 12, 12)
    images = ramp + 30 * torch.randn(4, 1, 8, 12, 12, generator=torch.Generator().manual_seed(1))
    assert mean_of_the_last_losses(task_of("rotation"), images) < 0.6 * math.log(4)
