"""What any implementation of SMIT should pass, end to end on a tiny task: ten statements, in their order."""

import math
from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor, nn

from apatite.core.config import load
from apatite.core.errors import ModelError
from apatite.core.types import Projected
from apatite.data.hiding import Hidden, HidingLaw
from apatite.data.views import ViewPlan
from apatite.nn.models import model_size
from apatite.nn.swin.config import SwinConfig
from apatite.pretrain.branches import VoxelHead
from apatite.pretrain.collapse import collapse_reasons
from apatite.pretrain.health import feature_spread, teacher_numbers
from apatite.pretrain.methods import METHODS
from apatite.pretrain.packaged import packaged
from apatite.pretrain.showing import Showing
from apatite.pretrain.view import Target, Taught, View
from apatite.segment.model import SegmenterConfig
from apatite.segment.transfer import TAKES, transfer

# 1. What is hidden


def test_1_exactly_152_of_216_cells_are_hidden_in_each_view_anew():
    method, encoder = METHODS["smit"], model_size("swin-smit").encoder(windows_hu=((-175.0, 250.0),))
    showing = Showing(plan=method.views, hiding=method.hiding, encoder=encoder, seed=4)
    is_hidden = showing.hiding.hide(4, 7, range(2), encoder.tokens, views=method.views.count).is_hidden
    assert is_hidden.shape == (4, 216)
    assert is_hidden.sum(dim=1).tolist() == [152] * 4
    assert len(is_hidden.unique(dim=0)) == 4
    voxels = torch.zeros(1, 216, 1).masked_fill(is_hidden[:1, :, None], 1)
    view = View(patches=voxels, hiding=Hidden(is_hidden=is_hidden[:1]), tokens=encoder.tokens, patch=(1, 1, 1))
    assert float(view.hidden_voxels().mean()) == pytest.approx(0.7037, abs=5e-5)


def test_1_hidden_cells_are_those_whose_embedded_patches_are_the_token(smit_method, smit_task, smit_batch):
    task = smit_task(smit_method("smit"))
    view, student, embedded = task.view(smit_batch(task.method), 0), task.branches["student"], []
    student.encoder.blocks[0].register_forward_pre_hook(lambda _, given: embedded.append(given[0].detach()))
    student.look(view)
    is_token = (embedded[0] == student.hidden_token).all(dim=-1)
    # Cells of 8 patches along each axis, in C order.
    cells = view.is_hidden.reshape(-1, *view.tokens)
    for axis in (1, 2, 3):
        cells = cells.repeat_interleave(8, dim=axis)
    assert torch.equal(is_token, cells)


# 2. The loss of voxels


def test_2_visible_voxels_have_no_part_in_the_image_loss(smit_method, smit_task, smit_batch):
    task = smit_task(smit_method("smit"))
    seen = task.look(smit_batch(task.method), 0)["student"]
    image = seen.image.detach().requires_grad_()
    loss = task.term("mip").loss(replace(seen, image=image))
    loss.backward()
    is_visible = seen.view.hidden_voxels() == 0
    assert not image.grad[is_visible].any()
    assert image.grad[~is_visible].all()
    other = torch.where(is_visible, image.detach() + 3, image.detach())
    assert torch.equal(task.term("mip").loss(replace(seen, image=other)), loss)


# 3. Depth to space


def test_3_every_output_of_the_last_layer_is_the_voxel_it_should_be():
    encoder = SwinConfig(crop=(48, 16, 32), windows_hu=((0.0, 1.0),), dim=12, heads=(1, 1, 1, 1))
    head, (h, w, t) = VoxelHead(encoder, normalises=False).double(), encoder.deep_grid_of(encoder.crop)
    # An output is known by its bias, an element by its first value.
    outputs = torch.arange(32**3, dtype=torch.float64)
    with torch.no_grad():
        head.linear.weight.zero_()[:, 0] = 1
        head.linear.bias.copy_(outputs)
    elements = torch.zeros(1, h * w * t, encoder.deep_dim, dtype=torch.float64)
    elements[0, :, 0] = torch.arange(h * w * t) * 32.0**3
    image = head(elements, encoder.crop)[0, 0].long()
    for place in ((0, 0, 0), (1, 2, 3), (31, 15, 31), (32, 0, 0), (47, 15, 31), (40, 7, 5), (3, 9, 30)):
        (y, s1), (x, s2), (z, s3) = (divmod(voxel, 32) for voxel in place)
        element, channel = (y * w + x) * t + z, (s1 * 32 + s2) * 32 + s3
        assert int(image[place]) == element * 32**3 + channel
    assert (h, w, t) == (2, 1, 1)
    assert image.shape == (48, 16, 32)
    assert len(image.unique()) == image.numel()


# 4. Which view of the teacher


def test_4_cells_hear_of_their_own_view_and_views_of_the_other(smit_method, smit_task, smit_batch, monkeypatch):
    task, certain = smit_task(smit_method("smit")), torch.eye(40, dtype=torch.float64)
    batch, of_views = smit_batch(task.method), torch.tensor([5, 5, 9, 9])

    def target(says: Tensor) -> Target:
        points = Projected(points=certain[says], prototypes=certain)
        return Target(projected=points, offset=torch.zeros(40, dtype=torch.float64), temperature=1e-3)

    def taught(view: View, step: int) -> Taught:
        """5 of the first view of each sample and 9 of the second."""
        return Taught(cells=target(of_views.repeat_interleave(prod(view.tokens))), views=target(of_views))

    monkeypatch.setattr(task.teacher, "taught", taught)
    losses, seen = task.losses(batch, 0), task.branches["student"].look(task.view(batch, 0))
    counts = seen.view.is_hidden.sum(dim=1)
    own, other = of_views.repeat_interleave(counts), torch.tensor([9, 9, 5, 5])
    for name, made, says in (("mpd", seen.hidden_cells, own), ("itd", seen.views, other)):
        entropy = nn.functional.cross_entropy(made.points @ made.prototypes.T / 0.1, says)
        assert float(losses[name].detach()) == pytest.approx(0.1 * float(entropy.detach()), rel=1e-6)


# 5. What is hidden acts on ITD through the input alone


def test_5_the_loss_of_views_does_not_read_what_is_hidden(smit_method, smit_task, smit_batch):
    task = smit_task(smit_method("smit"))
    view = task.view(smit_batch(task.method), 0)
    seen = task.branches["student"].look(view)
    taught = task.teacher.taught(view, 0)
    altered = replace(view, hiding=Hidden(is_hidden=view.is_hidden.roll(1, dims=1)))
    for name, is_same in (("itd", True), ("mpd", False)):
        term = task.term(name)
        assert torch.equal(*(term.loss(replace(seen, view=x, taught=taught)) for x in (view, altered))) == is_same
    of_all, itd = task.branches["student"].look(view.clean()), task.term("itd")
    assert not torch.equal(itd.loss(replace(of_all, taught=taught)), itd.loss(replace(seen, taught=taught)))


# 6. A teacher that is its student


def test_6_a_student_that_sees_what_its_equal_teacher_sees_has_the_teachers_entropy(smit_method, smit_task, smit_batch):
    method = smit_method("itd_only")
    method = replace(
        method,
        hiding=HidingLaw(ratio=None),
        views=ViewPlan(count=2, parent_ratio=1.0),
        teaching=replace(method.teaching, temperature=(0.1, 0.1)),
    )
    task = smit_task(method)
    task.teacher.begin(task.branches["student"])
    batch = smit_batch(method)
    seen = task.branches["student"].look(task.view(batch, 0))
    probability = (seen.views.points @ seen.views.prototypes.T / 0.1).softmax(dim=1)
    entropy = torch.special.entr(probability).sum(dim=1).mean()
    assert 0.1 < float(entropy.detach()) < math.log(40)
    assert float(task.losses(batch, 0)["itd"].detach()) == pytest.approx(float(entropy.detach()), rel=1e-9)


# 7. The teacher


def test_7_nothing_but_the_student_learns(smit_method, smit_task, smit_batch):
    task = smit_task(smit_method("smit"))
    sum(task.losses(smit_batch(task.method), 0).values()).backward()
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())
    assert all(parameter.grad is None for parameter in task.teacher.parameters())
    assert not any(buffer.requires_grad or buffer.grad is not None for buffer in task.teacher.buffers())
    assert {name for name, _ in task.teacher.named_buffers()} >= {"centrings.cells.centre", "centrings.views.centre"}


@pytest.mark.parametrize("step", [0, 17, 59])
def test_7_the_momentum_follows_the_step_of_the_whole_run(step, smit_method, smit_task):
    task = smit_task(smit_method("smit"))
    name = "encoder.blocks.2.mlp.0.weight"
    ours, theirs = (dict(part.named_parameters())[name] for part in (task.branches["student"], task.teacher.branch))
    before = theirs.detach().clone()
    task.after(step)
    momentum = 1 - 0.004 * (1 + math.cos(math.pi * step / 60)) / 2
    assert torch.allclose(theirs, momentum * before + (1 - momentum) * ours, rtol=1e-12, atol=0)


def test_7_the_momentum_goes_from_0996_to_1():
    teaching = METHODS["smit"].teaching
    assert teaching.momentum_at(0, 1000) == pytest.approx(0.996)
    assert teaching.momentum_at(500, 1000) == pytest.approx(0.998)
    assert teaching.momentum_at(1000, 1000) == 1
    assert {METHODS["smit_released"].teaching.momentum_at(step, 1000) for step in (0, 500, 1000)} == {0.996}


@pytest.mark.parametrize(("name", "is_copied"), [("smit", True), ("smit_released", False)])
def test_7_a_teacher_begins_as_its_student_unless_it_is_the_released_one(name, is_copied, smit_method, smit_task):
    task = smit_task(smit_method(name), noise=0.0)
    student = dict(task.branches["student"].named_parameters())
    theirs = {name: weight for name, weight in task.teacher.branch.named_parameters() if weight.ndim > 1}
    assert len(theirs) > 20
    assert {torch.equal(weight, student[name]) for name, weight in theirs.items()} == {is_copied}


# 8. Which weights learn


def unreached(task, batch) -> set[str]:
    """The census: weights of the encoder to which no term gives a gradient."""
    sum(task.losses(batch, 1).values()).backward()
    encoder = task.branches["student"].encoder
    return {name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()}


OUTPUT_NORMS = {f"norms.{number}.{kind}" for number in range(4) for kind in ("weight", "bias")}
LAST_MERGING = {f"blocks.5.merge.{name}" for name in ("norm.weight", "norm.bias", "reduction.weight")}


@pytest.mark.parametrize(
    ("name", "tap", "allowed"),
    [
        ("smit", "stage4", OUTPUT_NORMS),
        ("smit_released", "merged3", OUTPUT_NORMS),
        ("simmim", None, OUTPUT_NORMS),
        # Stage 4 learns; only the merging after it, which the reconstruction alone reads, does not.
        ("smit_without_mip", "stage4", OUTPUT_NORMS | LAST_MERGING),
        ("itd_only", "stage4", OUTPUT_NORMS | LAST_MERGING),
        ("ibot", "stage4", OUTPUT_NORMS | LAST_MERGING),
    ],
)
def test_8_every_other_weight_of_the_encoder_learns(name, tap, allowed, smit_method, smit_task, smit_batch):
    task = smit_task(smit_method(name))
    assert tap is None or task.method.teaching.tap == tap
    assert unreached(task, smit_batch(task.method)) == allowed


def test_8_the_census_flags_stage_4_where_the_released_tap_meets_no_reconstruction(smit_method, smit_task, smit_batch):
    method = smit_method("smit_without_mip")
    task = smit_task(replace(method, teaching=replace(method.teaching, tap="merged3")))
    found = unreached(task, smit_batch(method))
    encoder = task.branches["student"].encoder
    stage4 = {name for name, _ in encoder.named_parameters() if name.startswith(("blocks.4", "blocks.5"))}
    assert len(stage4) > 20
    assert found == OUTPUT_NORMS | stage4


# 9. Signs of collapse


def test_9_the_monitors_tell_a_sound_teacher_from_collapsed_ones(smit_method, smit_task, smit_batch):
    task = smit_task(smit_method("smit"))
    student, view = task.branches["student"], task.view(smit_batch(task.method), 0)

    def row() -> dict[str, float]:
        tokens = student.norm(student.encoder.taps(view.image()).at(student.tap))
        row = teacher_numbers(task.teacher.taught(view, task.steps // 2), view.is_hidden)
        return row | {"feature_spread": feature_spread(tokens.mean(dim=1))}

    with torch.no_grad():
        sound = row()
        assert collapse_reasons(sound, prototypes=40) == ()
        for what in ("cells", "views"):
            assert 0 < sound[f"{what}_teacher_entropy"] < sound[f"{what}_mean_entropy"] <= math.log(40)
            assert 0 < sound[f"{what}_used_prototypes"] <= 1
        task.teacher.centrings["cells"].centre[1:] += 100
        assert "1.0 of 40 prototypes" in " ".join(collapse_reasons(row(), prototypes=40))
        task.teacher.centrings["cells"].centre[1:] -= 100
        for parameter in (*student.norm.parameters(), *task.teacher.branch.norm.parameters()):
            parameter.zero_()
        student.norm.bias.fill_(1.0)
        reasons = " ".join(collapse_reasons(row(), prototypes=40))
        for said in ("features of all crops are the same", "the same of all cells", "the same of all views"):
            assert said in reasons


# 10. What is handed on


def test_10_every_tensor_of_the_encoder_is_handed_on_and_nothing_else(smit_method, smit_task):
    task = smit_task(smit_method("smit"), torch.float32)
    kind, architecture, weights = packaged(task)
    encoder = task.branches["student"].encoder
    assert kind == "swin"
    assert load(SwinConfig, architecture) == encoder.config
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    segmenter = SegmenterConfig(encoder=None, swin=encoder.config, network="swin", num_labels=3).build()
    coverage = transfer(tensors, segmenter, TAKES["encoder"], floor=1.0)
    own = dict(encoder.named_parameters())
    assert len(coverage.rows) == len(own) == len(tensors)
    assert sum(row.numel for row in coverage.rows) == sum(weight.numel() for weight in own.values())
    assert coverage.ratio == 1
    assert coverage.unused == coverage.dropped == ()
    for name, weight in segmenter.encoder.named_parameters():
        assert torch.equal(weight, own[name]), name


def test_10_a_tensor_that_is_missing_or_of_another_shape_is_refused(smit_method, smit_task):
    task = smit_task(smit_method("smit"), torch.float32)
    tensors = {name: torch.from_numpy(array) for name, array in packaged(task)[2].items()}
    config = SegmenterConfig(encoder=None, swin=task.shapes.encoder, network="swin", num_labels=3)
    for broken in (
        {name: tensor for name, tensor in tensors.items() if name != "blocks.3.attention.qkv.weight"},
        {**tensors, "embed.project.weight": tensors["embed.project.weight"][..., :1]},
    ):
        segmenter = config.build()
        before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
        with pytest.raises(ModelError, match="would be loaded"):
            transfer(broken, segmenter, TAKES["encoder"], floor=1.0)
        assert all(torch.equal(before[name], tensor) for name, tensor in segmenter.state_dict().items())
