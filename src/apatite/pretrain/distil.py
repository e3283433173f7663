"""Terms that a student learns from its teacher: hidden cells, other views, twins; and two that keep features apart.

    term           student                                teacher
    mpd            hidden cells of a view                 the same cells of the same view, clean
    itd            a view, hidden cells and all           another view of the same sample, clean
    twin_tokens    hidden cells of a view                 the cells of another view that show the same voxels, clean

Nothing is hidden from a teacher. In `itd` there are no cells to sum over and none is left out: what is hidden acts
through the input alone.

Source: Jiang et al. 2022 (arXiv 2205.10342) and its released code, which follows iBOT (Zhou et al. 2022, arXiv
2111.07832) and DINO (Caron et al. 2021, arXiv 2104.14294). `twin_tokens` is ours: where views are cut is known, so that
a cell can be compared with its own self in another view.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from apatite.core.types import IsHidden, Projected, Scalar
from apatite.data.views import twins
from apatite.losses.contrast import gathered
from apatite.losses.distillation import distillation_loss
from apatite.losses.gram import gram_loss
from apatite.losses.koleo import koleo_loss
from apatite.nn.intensity import Window
from apatite.pretrain.term import Made, Term, TermSettings
from apatite.pretrain.view import Seen, Target, Taught


class Distillation(Term):
    """Cross-entropy of the student's distributions over prototypes against the teacher's."""

    is_taught = True

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu
        self.temperature = settings.student_temperature

    def between(self, student: Projected, target: Target, weights: Float[Tensor, "rows"] | None = None) -> Scalar:
        """Of rows that belong together; their mean, or weighted."""
        return distillation_loss(
            student,
            target.projected,
            target.offset,
            student_temperature=self.temperature,
            teacher_temperature=target.temperature,
            weights=weights,
        )


class HiddenCells(Distillation):
    """MPD: say of each hidden cell what the teacher, who sees it, says of it."""

    makes = frozenset[Made]({"cells"})

    def loss(self, seen: Seen) -> Scalar:
        """The mean over the hidden cells of a view, then over all views; one that hides nothing counts as 0."""
        is_hidden = seen.view.is_hidden
        target = _of_cells(seen).rows(is_hidden.flatten())
        return self.between(seen.hidden_cells, target, cell_weights(is_hidden)[is_hidden])


class TwinCells(Distillation):
    """Say of each hidden cell what the teacher says of the cell of another view that shows the same voxels."""

    makes = frozenset[Made]({"cells"})

    def loss(self, seen: Seen) -> Scalar:
        """The mean over the hidden cells of a view that have a twin, then over all views; none counts as 0."""
        view = seen.view
        assert view.starts is not None, "a method with this term has two views of each sample"
        twin, has_twin = twins(view.starts, view.tokens, view.patch)
        # Rows of the teacher are cells view by view; the twin lies in the other half of the batch.
        first = torch.arange(len(twin), device=twin.device).roll(len(twin) // 2)
        rows = first[:, None] * twin.shape[1] + twin
        is_asked = view.is_hidden & has_twin
        student = Projected(
            points=seen.hidden_cells.points[has_twin[view.is_hidden]], prototypes=seen.hidden_cells.prototypes
        )
        return self.between(student, _of_cells(seen).rows(rows[is_asked]), cell_weights(is_asked)[is_asked])


class CrossViews(Distillation):
    """ITD: say of each view what the teacher says of the other views of the same sample."""

    makes = frozenset[Made]({"views"})

    def loss(self, seen: Seen) -> Scalar:
        """The mean over all pairs of a student's view, global or local, and another, global view of the teacher."""
        taught, num_views = _taught(seen), seen.view.num_views
        assert taught.views is not None
        student = seen.views
        if seen.local is not None:
            points = torch.cat([student.points, seen.local.views.points])
            student = Projected(points=points, prototypes=student.prototypes)
        batch = len(seen.views.points) // num_views
        rows = torch.arange(len(student.points), device=student.points.device)
        others = [
            (rows[start : start + batch], teacher)
            for start in range(0, len(rows), batch)
            for teacher in range(num_views)
            if start != teacher * batch
        ]
        asked = torch.cat([own for own, _ in others])
        told = torch.cat([own % batch + teacher * batch for own, teacher in others])
        chosen = Projected(points=student.points[asked], prototypes=student.prototypes)
        return self.between(chosen, taught.views.rows(told))


class KoLeo(Term):
    """Views of different samples keep away from their nearest neighbour; see `losses.koleo`."""

    makes = frozenset[Made]({"tokens"})

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu
        self.share, self.add_up = settings.share, settings.add_up

    def loss(self, seen: Seen) -> Scalar:
        """The sum over views, as DINOv2 weighs it; neighbours are the same view of the other samples of the batch."""
        views = seen.view_tokens.unflatten(0, (seen.view.num_views, -1))
        return torch.stack([koleo_loss(rows) for rows in gathered(views.float(), self.share, self.add_up)]).sum()


class SameSimilarities(Term):
    """Gram anchoring: cells stay as similar to each other as an earlier teacher saw them; see `losses.gram`."""

    makes = frozenset[Made]({"tokens"})
    is_taught = True
    is_anchored = True

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu, settings

    def loss(self, seen: Seen) -> Scalar:
        """Over all cells of all views."""
        taught = _taught(seen)
        assert seen.tokens is not None
        assert taught.anchor is not None
        return gram_loss(seen.tokens, taught.anchor)


def cell_weights(is_asked: IsHidden) -> Float[Tensor, "batch cells"]:
    """So that the cells that are asked for are averaged in each view, and then the views."""
    counts = is_asked.sum(dim=1, keepdim=True).clamp(min=1)
    return (1 / (counts * len(is_asked))).expand(is_asked.shape)


def _taught(seen: Seen) -> Taught:
    assert seen.taught is not None, "a method with this term has a teacher"
    return seen.taught


def _of_cells(seen: Seen) -> Target:
    cells = _taught(seen).cells
    assert cells is not None
    return cells
