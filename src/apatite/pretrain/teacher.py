"""The teacher of a student: a copy that moves towards it after each step, and says what it makes of the clean views.

Source: Caron et al. 2021 (arXiv 2104.14294), section 3.1; see `teaching` for what SMIT, iBOT and DINO differ in.
"""

from typing import cast

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from apatite.core.types import Projected
from apatite.pretrain.branches import Branch, StudentBranch
from apatite.pretrain.centring import CENTRINGS, Centre, Sinkhorn
from apatite.pretrain.teaching import Teaching
from apatite.pretrain.term import TermSettings
from apatite.pretrain.view import Target, Taught, View


class Teacher(nn.Module):
    """A moving average of a student.

    Args:
        branch: A network with the names of the student's, of its own draw; it learns nothing.
        anchor: Another one, which becomes the teacher from time to time; `None` where no term asks.
        teaching: The rules.
        steps: Length of the run.
        prototypes: Of its heads.
        settings: Say which processes share a batch.
    """

    def __init__(
        self,
        branch: StudentBranch,
        anchor: StudentBranch | None,
        teaching: Teaching,
        *,
        steps: int,
        prototypes: int,
        settings: TermSettings,
    ) -> None:
        super().__init__()
        self.branch, self.anchor = branch.requires_grad_(requires_grad=False), anchor
        self.teaching, self.steps = teaching, steps
        if anchor is not None:
            anchor.requires_grad_(requires_grad=False)
        build, heads = CENTRINGS[teaching.centring], branch.heads
        momenta = {
            "cells": teaching.cells_centre_momentum if heads.cells is not None else None,
            "views": teaching.views_centre_momentum if heads.views is not None else None,
        }
        self.centrings = nn.ModuleDict(
            {
                name: build(prototypes, momentum, settings.share, settings.add_up)
                for name, momentum in momenta.items()
                if momentum is not None
            }
        )

    def begin(self, student: Branch) -> None:
        """Take the student's first weights, if so it begins; the anchor begins as the teacher."""
        if self.teaching.copies_student:
            self.branch.load_state_dict(_named_as(self.branch, student), strict=True)
        if self.anchor is not None:
            self.anchor.load_state_dict(_named_as(self.anchor, self.branch), strict=True)

    def train(self, mode: bool = True) -> "Teacher":
        """A teacher drops no paths unless its rules say so; an anchor never does."""
        super().train(mode)
        self.branch.train(mode and self.teaching.drops_paths)
        if self.anchor is not None:
            self.anchor.eval()
        return self

    @torch.no_grad()
    def taught(self, view: View, step: int) -> Taught:
        """What it says of the views of a step, clean. Changes nothing.

        Args:
            view: As the student is given it; what is hidden in it is what the student is asked about.
            step: Of the run, which temperatures depend on.
        """
        clean = view.clean()
        seen = self.branch.look(clean)
        cells = views = None
        if seen.heads.cells is not None:
            told = seen.all_cells
            asked = Projected(points=told.points[view.is_hidden.flatten()], prototypes=told.prototypes)
            cells = self._target("cells", told, asked, self.teaching.cells_temperature(step, self.steps))
        if seen.heads.views is not None:
            views = self._target("views", seen.views, seen.views, self.teaching.views_temperature(step, self.steps))
        return Taught(
            cells=cells,
            views=views,
            contrasted=seen.contrasted,
            anchor=None if self.anchor is None else self.anchor.look(clean).tokens,
        )

    def note(self, taught: Taught) -> None:
        """Remember of a step what the centres will move by after it."""
        for name, centring in self.centrings.items():
            target = taught.cells if name == "cells" else taught.views
            assert target is not None
            cast(Centre | Sinkhorn, centring).note(target.projected)

    @torch.no_grad()
    def after(self, student: Branch, step: int) -> None:
        """Move towards the student, by whose optimiser step this one follows."""
        own = dict(self.branch.named_parameters())
        wanted = dict(student.named_parameters())
        momentum = self.teaching.momentum_at(step, self.steps)
        get_ema_multi_avg_fn(momentum)(list(own.values()), [wanted[name] for name in own], 0)
        for centring in self.centrings.values():
            cast(Centre | Sinkhorn, centring).after()
        if self.anchor is not None and self.teaching.is_anchored_after(step, self.steps):
            self.anchor.load_state_dict(_named_as(self.anchor, self.branch), strict=True)

    def _target(self, name: str, told: Projected, asked: Projected, temperature: float) -> Target:
        offset = cast(Centre | Sinkhorn, self.centrings[name]).offset(asked, temperature)
        return Target(projected=told, offset=offset, temperature=temperature)


def _named_as(target: nn.Module, source: nn.Module) -> dict[str, torch.Tensor]:
    """Of the source's state what the target has as well."""
    state = source.state_dict()
    return {name: state[name] for name in target.state_dict()}
