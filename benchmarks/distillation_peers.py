"""A step of SMIT as its released script does it, and the losses of lightly: the other sides of `distillation.py`.

The released script passes both views at once, projects every cell of both networks and keeps every logit, multiplies
with what is hidden afterwards, and follows the student in a Python loop that gathers names and weights anew each step.
Encoder and heads are those of `smit_reference.py`, whose attention keeps its scores, as the released one does.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smit_reference import Centres, Head, Looked, Network, Rules, Shape, Temperatures, enlarged

Step = Callable[[], Tensor]


class Released:
    """Student, teacher and centres of the released script."""

    def __init__(self, shape: Shape, rules: Rules) -> None:
        self.student = Network(shape, rules)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.centres = Centres.zero(shape)
        self.temperatures = Temperatures()

    def step(self, images: Tensor, is_hidden: Tensor, momentum: float = 0.996) -> Tensor:
        """One step without the optimiser, which both sides share.

        Args:
            images: The first views of all samples, then the second, in network units.
            is_hidden: `images cells`.
            momentum: Of the teacher.
        """
        self.student.zero_grad(set_to_none=True)
        seen, taught = self.student(images, is_hidden), self.teacher(images)
        weights = self.student.rules.weights
        loss = weights["mip"] * self.image_loss(images, is_hidden, seen)
        cells, whole = token_losses(seen, taught, is_hidden, self.centres, self.temperatures)
        loss = loss + weights["mpd"] * cells + weights["itd"] * whole
        self.centres.follow([taught])
        loss.backward()
        follow_by_name(self.teacher, self.student, momentum)
        return loss.detach()

    def image_loss(self, images: Tensor, is_hidden: Tensor, seen: Looked) -> Tensor:
        """Of both views at once."""
        edges, cell = images.shape[2:], self.student.shape.cell
        grid = [edge // part for edge, part in zip(edges, cell, strict=True)]
        counts = enlarged(is_hidden, grid, cell).to(images.dtype)[:, None].expand_as(images)
        missed = F.l1_loss((images + 1) / 2, (self.student.voxels(seen.deep, edges) + 1) / 2, reduction="none")
        return (missed * counts).sum() / (counts.sum() + 1e-5)


def token_losses(
    seen: Looked,
    taught: Looked,
    is_hidden: Tensor,
    centres: Centres,
    at: Temperatures,
    student_temperature: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Cells of the same view, and the whole of the other; the first half of the rows is the first view."""
    student_cells, student_whole = (x / student_temperature for x in (seen.cells, seen.whole))
    teacher_cells = F.softmax((taught.cells - centres.cells) / at.cells, dim=-1).detach().chunk(2)
    teacher_whole = F.softmax((taught.whole - centres.whole) / at.whole, dim=-1).detach().chunk(2)
    cells, whole = [], []
    for number, m in enumerate(is_hidden.to(student_cells.dtype).chunk(2)):
        ours, others = student_cells.chunk(2)[number], student_whole.chunk(2)[1 - number]
        entropies = torch.sum(-teacher_cells[number] * F.log_softmax(ours, dim=-1), dim=-1)
        cells.append(((entropies * m).sum(dim=-1) / m.sum(dim=-1).clamp(min=1.0)).mean())
        whole.append(torch.sum(-teacher_whole[number] * F.log_softmax(others, dim=-1), dim=-1).mean())
    return (cells[0] + cells[1]) / 2, (whole[0] + whole[1]) / 2


def follow_by_name(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """The moving average as released: both lists made anew, one weight after the other."""
    with torch.no_grad():
        ours, theirs = dict(student.named_parameters()), dict(teacher.named_parameters())
        for name in set(ours) & set(theirs):
            theirs[name].data.mul_(momentum).add_((1 - momentum) * ours[name].detach().data)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What heads are given: tapped tokens of two views of each sample, and which cells are hidden.

    Attributes:
        student, teacher: `views cells width`, first all first views.
        is_hidden: `views cells`, in every view as many.
    """

    student: Tensor
    teacher: Tensor
    is_hidden: Tensor

    @classmethod
    def drawn(cls, views: int, cells: int, width: int, hidden: int) -> "Tokens":
        """Normal numbers; the time of a step does not depend on them."""
        draw = torch.Generator().manual_seed(0)
        student, teacher = (torch.randn(views, cells, width, generator=draw) for _ in range(2))
        order = torch.rand(views, cells, generator=draw).argsort(dim=1).argsort(dim=1)
        return cls(student=student.requires_grad_(), teacher=teacher, is_hidden=order < hidden)


def lightly_step(shape: Shape, tokens: Tokens) -> Step:
    """lightly's heads on hidden cells and on the mean of a view, its two losses, and the gradient.

    Raises:
        ImportError: lightly or its torchvision is not installed, or does not load.
    """
    dino_loss, patch_loss, head_class = lightly_parts()
    width = tokens.student.shape[2]
    sizes = {"hidden_dim": shape.head_hidden, "bottleneck_dim": shape.head_dim, "output_dim": shape.prototypes}
    heads, teachers = (
        nn.ModuleDict({name: head_class(width, **sizes) for name in ("cells", "whole")}) for _ in range(2)
    )
    teachers.load_state_dict(heads.state_dict())
    of_cells, of_whole = patch_loss(output_dim=shape.prototypes), dino_loss(output_dim=shape.prototypes)

    def step() -> Tensor:
        heads.zero_grad(set_to_none=True)
        tokens.student.grad = None
        with torch.no_grad():
            taught = teachers["cells"](tokens.teacher[tokens.is_hidden])
            taught_whole = teachers["whole"](tokens.teacher.mean(dim=1)).chunk(2)
        seen = heads["cells"](tokens.student[tokens.is_hidden])
        seen_whole = heads["whole"](tokens.student.mean(dim=1)).chunk(2)
        loss = 0.1 * of_cells(taught, seen, tokens.is_hidden[..., None], teacher_temp=0.04)
        loss = loss + 0.1 * of_whole(list(taught_whole), list(seen_whole), teacher_temp=0.04)
        loss.backward()
        return loss.detach()

    return step


def every_cell_step(shape: Shape, tokens: Tokens) -> Step:
    """Heads and losses as released: every cell of both networks, all logits, what is hidden multiplied afterwards."""
    heads = nn.ModuleDict({name: Head(tokens.student.shape[2], shape) for name in ("cells", "whole")})
    teachers = copy.deepcopy(heads).requires_grad_(False)
    centres, temperatures = Centres.zero(shape), Temperatures()

    def look(by: nn.ModuleDict, given: Tensor) -> Looked:
        return Looked(cells=by["cells"](given), whole=by["whole"](given.mean(dim=1)), deep=given)

    def step() -> Tensor:
        heads.zero_grad(set_to_none=True)
        tokens.student.grad = None
        seen, taught = look(heads, tokens.student), look(teachers, tokens.teacher)
        cells, whole = token_losses(seen, taught, tokens.is_hidden, centres, temperatures)
        centres.follow([taught])
        loss = 0.1 * cells + 0.1 * whole
        loss.backward()
        return loss.detach()

    return step


def lightly_parts() -> tuple[type, type, type]:
    """DINO's loss, iBOT's patch loss, and the head.

    lightly imports torchvision, which refuses to load beside a torch for another accelerator for want of two operators
    that nothing here uses; they are then declared, and the import is tried again.

    Raises:
        ImportError: not installed, or it does not load.
    """
    from timm_blocks import OPERATOR_TYPE, OPERATORS

    try:
        return _lightly()
    except RuntimeError:
        try:
            for name in OPERATORS:
                torch.library.define(f"torchvision::{name}", OPERATOR_TYPE)
            return _lightly()
        except RuntimeError as error:
            raise ImportError("its torchvision does not load beside this torch") from error


def _lightly() -> tuple[type, type, type]:
    from lightly.loss import DINOLoss, IBOTPatchLoss  # type: ignore[import-not-found]
    from lightly.models.modules.heads import DINOProjectionHead  # type: ignore[import-not-found]

    return DINOLoss, IBOTPatchLoss, DINOProjectionHead
