"""Every term, gradient, centre and teacher of a step is that of a plain reference written from the formulas."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from apatite.data.batches import Batch
from apatite.nn.drop_path import DropPath
from apatite.nn.swin.config import SwinConfig
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.view import View
from smit_reference import (
    Centres,
    Network,
    Rules,
    Shape,
    Temperatures,
    Views,
    follow,
    momentum_at,
    smit_step,
    total,
)

FIRST = 2
"""A step on the ramp of the temperatures."""
RULES = {
    "smit": Rules(tap="stage4"),
    "smit_released": Rules(tap="merged3"),
    "itd_only": Rules(tap="stage4", weights={"itd": 1.0}),
    "ibot": Rules(tap="stage4", weights={"mpd": 1.0, "itd": 1.0}, is_shared=True),
    "dino": Rules(tap="stage4", weights={"itd": 1.0}),
    "simmim": Rules(weights={"mip": 1.0}, normalises_deep=True),
}


def shape_of(task: PretrainTask) -> Shape:
    encoder, projection = task.shapes.encoder, task.shapes.projection
    assert isinstance(encoder, SwinConfig)
    return Shape(
        channels=len(encoder.windows_hu),
        patch=encoder.patch,
        dim=encoder.dim,
        depths=encoder.depths,
        heads=encoder.heads,
        window=encoder.window,
        drop_path=encoder.drop_path,
        prototypes=projection.prototypes,
        head_hidden=projection.hidden,
        head_dim=projection.dim,
    )


class Oracle:
    """The reference beside a task: the same weights, given the same places and the same hidden cells."""

    def __init__(self, name: str, task: PretrainTask) -> None:
        self.name, self.task, self.rules = name, task, RULES[name]
        shape, dtype = shape_of(task), next(task.parameters()).dtype
        self.student = Network(shape, self.rules).to(dtype)
        take_weights(self.student, task.branches["student"])
        self.teacher, self.centres = None, Centres.zero(shape, dtype)
        if task.teacher is not None:
            self.teacher = Network(shape, self.rules).to(dtype).eval()
            take_weights(self.teacher, task.teacher.branch)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Weighted terms; their gradients lie in the student, and the centres have moved."""
        views = cut_by_hand(batch, self.task.view(batch, step), self.task.shapes.encoder)
        at = temperatures_at(self.name, step, self.task.steps)
        terms, taught = smit_step(self.student, self.teacher, views, self.centres, at)
        self.student.zero_grad()
        total(terms, self.rules).backward()
        if taught:
            self.centres.follow(taught)
        return {name: self.rules.weights[name] * value.detach() for name, value in terms.items()}


def reference_name(name: str, depths: Sequence[int]) -> str | None:
    """The reference's name of one of a branch's weights; `None` where it has none."""
    for ours, theirs in (
        ("encoder.embed.project.", "swin.patch_embed.proj."),
        ("encoder.embed.norm.", "swin.patch_embed.norm."),
        ("project_cells.prototypes.weight", "cell_head.prototypes"),
        ("project_views.prototypes.weight", "whole_head.prototypes"),
        ("reconstruct.norm.", "deep_norm."),
        ("reconstruct.linear.", "to_voxels."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    if name.startswith("encoder.norms."):
        return None  # of the skips, which no loss of pre-training reads
    if name.startswith("encoder.blocks."):
        return _block_name(name, depths)
    for ours, theirs in (
        ("project_cells.layers.", "cell_head.layers."),
        ("project_views.layers.", "whole_head.layers."),
    ):
        if name.startswith(ours):
            number, kind = name.removeprefix(ours).split(".")
            return f"{theirs}{int(number) // 2}.{kind}"
    return name


def _block_name(name: str, depths: Sequence[int]) -> str:
    number, rest = name.removeprefix("encoder.blocks.").split(".", 1)
    stage, block = 1, int(number)
    while block >= depths[stage - 1]:
        block, stage = block - depths[stage - 1], stage + 1
    if rest.startswith("merge."):
        return f"swin.layers{stage}.0.downsample.{rest.removeprefix('merge.')}"
    for ours, theirs in (
        ("attention_norm.", "norm1."),
        ("attention.", "attn."),
        ("mlp_norm.", "norm2."),
        ("mlp.0.", "mlp.linear1."),
        ("mlp.2.", "mlp.linear2."),
    ):
        if rest.startswith(ours):
            rest = theirs + rest.removeprefix(ours)
    return f"swin.layers{stage}.0.blocks.{block}.{rest}"


def pairs(reference: Network, branch: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Parameter]]:
    """Weights that belong together, by the branch's names."""
    theirs = dict(reference.named_parameters())
    for name, ours in branch.named_parameters():
        other = reference_name(name, reference.shape.depths)
        if other is not None:
            yield name, ours, theirs[other]


def take_weights(reference: Network, branch: nn.Module) -> None:
    with torch.no_grad():
        for _, ours, theirs in pairs(reference, branch):
            theirs.copy_(ours)


def cut_by_hand(batch: Batch, view: View, encoder: SwinConfig) -> Views:
    """The same views in network units."""
    windowed = [(batch.images_hu.clamp(low, high) - low) / (high - low) * 2 - 1 for low, high in encoder.windows_hu]
    parents = torch.cat(windowed, dim=1)
    if view.starts is None:
        return Views(images=[parents], is_hidden=[view.is_hidden])
    images = [
        torch.stack([cut(parent, start, encoder.crop) for parent, start in zip(parents, starts, strict=True)])
        for starts in view.starts
    ]
    local = [] if view.local is None else list(view.local.image().chunk(view.local.num_views))
    return Views(images=images, is_hidden=list(view.is_hidden.chunk(len(images))), local=local)


def cut(parent: Tensor, start: Tensor, edges: tuple[int, int, int]) -> Tensor:
    z, y, x = start.tolist()
    return parent[:, z : z + edges[0], y : y + edges[1], x : x + edges[2]]


def temperatures_at(name: str, step: int, steps: int) -> Temperatures:
    """0.04 to 0.07 over the first 30 of 500 epochs; as released that of cells over the next 30."""

    def risen(begins: float) -> float:
        return 0.04 + 0.03 * min(max((step / steps - begins) / 0.06, 0.0), 1.0)

    return Temperatures(whole=risen(0.0), cells=risen(0.06 if name == "smit_released" else 0.0))


def learn(branch: nn.Module, rate: float = 0.05) -> None:
    with torch.no_grad():
        for parameter in branch.parameters():
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad)
                parameter.grad = None


def assert_same_losses_and_gradients(
    oracle: Oracle, batch: Batch, step: int, *, losses: float = 1e-6, gradients: float = 1e-5
) -> None:
    made = oracle.task.losses(batch, step)
    wanted = oracle.step(batch, step)
    assert made.keys() == wanted.keys()
    for term, value in made.items():
        assert float(value.detach()) == pytest.approx(float(wanted[term]), rel=losses), term
    sum(made.values()).backward()
    for weight, ours, theirs in pairs(oracle.student, oracle.task.branches["student"]):
        given, expected = (torch.zeros_like(p) if p.grad is None else p.grad for p in (ours, theirs))
        distance, size = float((given - expected).norm()), float(expected.norm())
        assert distance <= gradients * size + 1e-12, (weight, distance, size)


@pytest.mark.parametrize("name", ["smit", "smit_released", "ibot"])
def test_two_steps(name, smit_method, smit_task, smit_batch):
    task = smit_task(smit_method(name))
    oracle, batch = Oracle(name, task), smit_batch(task.method)
    for step in (FIRST, FIRST + 1):
        assert_same_losses_and_gradients(oracle, batch, step)
        learn(task.branches["student"])
        learn(oracle.student)
        task.after(step)
        momentum = 0.996 if name == "smit_released" else momentum_at(step, task.steps)
        follow(oracle.teacher, oracle.student, momentum)
        for weight, ours, theirs in pairs(oracle.teacher, task.teacher.branch):
            assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-8), weight
        centres = {"cells": oracle.centres.cells, "views": oracle.centres.whole}
        for part, centring in task.teacher.centrings.items():
            assert torch.allclose(centring.centre, centres[part], rtol=1e-7, atol=1e-9), part


@pytest.mark.parametrize("name", ["itd_only", "dino", "simmim"])
def test_a_step(name, smit_method, smit_task, smit_batch):
    task = smit_task(smit_method(name))
    assert_same_losses_and_gradients(Oracle(name, task), smit_batch(task.method), FIRST)


def test_a_step_in_single_precision(smit_method, smit_task, smit_batch):
    task = smit_task(smit_method("smit"), torch.float32)
    batch = smit_batch(task.method, torch.float32)
    assert_same_losses_and_gradients(Oracle("smit", task), batch, FIRST, losses=1e-4, gradients=1e-3)


@pytest.mark.parametrize("name", ["smit", "smit_released"])
def test_a_step_with_dropped_paths(name, smit_method, smit_task, smit_batch):
    task = smit_task(smit_method(name), drop_path=0.5).train()
    oracle, batch = Oracle(name, task), smit_batch(task.method)
    # The same draws twice: once to see what is dropped, once beside a reference that drops the same.
    kept = {part: record_kept(branch) for part, branch in (("own", task.branches["student"]), ("taught", task.teacher))}
    torch.manual_seed(7)
    task.losses(batch, FIRST)
    assert any(not bool(rows.all()) for rows in kept["own"])
    # As released a teacher drops paths like its student; as it is meant it does not.
    assert any(not bool(rows.all()) for rows in kept["taught"]) == (name == "smit_released")
    replay(oracle.student, kept["own"])
    replay(oracle.teacher.train(), kept["taught"])
    torch.manual_seed(7)
    assert_same_losses_and_gradients(oracle, batch, FIRST)


def record_kept(module: nn.Module) -> list[Tensor]:
    """A list that fills: for every dropping of a pass the factors of its rows, in the order of the blocks."""
    factors: list[Tensor] = []

    def note(part: DropPath, given: tuple[Tensor], made: Tensor) -> None:
        drops = part.training and part.rate > 0
        factors.append(made.flatten(1).any(dim=1) / (1 - part.rate) if drops else torch.ones(len(made)))

    for part in module.modules():
        if isinstance(part, DropPath):
            part.register_forward_hook(note)
    return factors


class Kept(nn.Module):
    """In the place of a random drop: the factors of one block, two for each view."""

    def __init__(self, factors: list[Tensor]) -> None:
        super().__init__()
        attention, perceptron = factors
        views = zip(attention.chunk(2), perceptron.chunk(2), strict=True)
        self.coming = [rows for pair in views for rows in pair]

    def forward(self, branch: Tensor) -> Tensor:
        return branch * self.coming.pop(0).to(branch.dtype).view(-1, 1, 1, 1, 1)


def replay(reference: Network, factors: list[Tensor]) -> None:
    stages = [getattr(reference.swin, f"layers{number}")[0] for number in range(1, 5)]
    blocks = [block for stage in stages for block in stage.blocks]
    assert len(factors) == 2 * len(blocks)
    for number, block in enumerate(blocks):
        block.drop_path = Kept(factors[2 * number : 2 * number + 2])
