"""The task that the loop minimises: the branches of a method, its weighted terms, and the teacher of a student."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final, cast

from torch import nn

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.types import Scalar
from apatite.data.batches import Batch
from apatite.data.photometric import PhotometricConfig
from apatite.nn.attention import AttentionKernel
from apatite.nn.intensity import Windows
from apatite.nn.vit import ViT
from apatite.pretrain.balance import Balance
from apatite.pretrain.between import BETWEEN, Between
from apatite.pretrain.branches import BRANCHES, Branch, Shapes, StudentBranch
from apatite.pretrain.methods import Method
from apatite.pretrain.showing import Showing
from apatite.pretrain.teacher import Teacher
from apatite.pretrain.teaching import Teaching
from apatite.pretrain.term import Made, Term, TermSettings
from apatite.pretrain.terms import TERMS
from apatite.pretrain.view import Seen, View

STUDENT: Final = "student"
"""The branch that sees hidden places as one learned token, and so is whatever the model is: a ViT or a Swin."""
OF_A_TEACHER: Final = frozenset[Made]({"tokens", "cells", "views", "contrast"})
"""What may be asked of a teacher as well."""


class PretrainTask(nn.Module):
    """The networks with the terms of a method.

    Args:
        method: Branches, weighted terms, views, what is hidden, and the rules of a teacher.
        shapes: Of the networks; what the method decides about them is taken from the method.
        kernel: How attention is computed.
        seed: Of the views and of the hidden cells.
        steps: Length of the run, of which weights are functions.
        settings: Of the terms.
        photometric: How values of each view are changed; not at all when `None`.

    Raises:
        ConfigError: the ratio leaves nothing visible or nothing hidden; terms of one branch, or of two that are
            compared, want its reconstruction in different units; a term between branches has not two; no term counts
            at every step; a term asks a teacher, and there is none.
    """

    def __init__(  # noqa: PLR0913 - what may be left out is keyword-only
        self,
        method: Method,
        shapes: Shapes,
        kernel: AttentionKernel,
        seed: int,
        *,
        steps: int,
        settings: TermSettings | None = None,
        photometric: PhotometricConfig | None = None,
    ) -> None:
        super().__init__()
        settings, shapes = settings or TermSettings(), _shaped(shapes, method)
        self.showing = Showing(
            plan=method.views,
            hiding=method.hiding,
            encoder=shapes.encoder,
            seed=seed,
            photometric=photometric or PhotometricConfig(),
        )
        self.showing.refuse_impossible()
        self.method, self.shapes, self.steps = method, shapes, steps
        # One term for all branches: what it remembers of the input, such as diagrams, serves them all.
        build = partial(_build_term, shapes, settings)
        shared = {name: build(name) for name in dict.fromkeys(chain(*method.branches.values()))}
        terms = {branch: {name: shared[name] for name in weights} for branch, weights in method.branches.items()}
        between = {name: choose(BETWEEN, name, "term between branches")() for name in method.between}
        _refuse_impossible(method, terms, between)
        for term in shared.values():
            term.refuse(shapes.encoder.crop)
        # Weights are drawn in this order, branch by branch; terms have none.
        self.branches = nn.ModuleDict(
            {
                name: choose(BRANCHES, name, "branch")(shapes, kernel, _made(own, between), settings.add_up)
                for name, own in terms.items()
            }
        )
        self.terms = nn.ModuleDict(shared)
        self.between = nn.ModuleDict(between)
        self.windows = Windows(shapes.encoder.windows_hu)
        self.teacher = None
        if method.teaching is not None:
            self.teacher = _teacher(method.teaching, shapes, kernel, terms[STUDENT], settings, steps)
            self.teacher.begin(self.branch(STUDENT))
        names = [name for name, _ in method.weights()]
        self.balance = Balance(names, settings.share, settings.add_up) if method.balances else None

    @property
    def module(self) -> nn.Module:
        """All that learns."""
        return self

    @property
    def encoder(self) -> ViT:
        """The encoder of the masked autoencoder.

        Raises:
            AttributeError: the method has none.
        """
        if "vit" not in self.branches:
            raise AttributeError
        return cast(ViT, self.branches["vit"].encoder)

    def term(self, name: str) -> Term:
        """A term of that name, of whichever branch."""
        return cast(Term, self.terms[name])

    def losses(self, batch: Batch, step: int) -> dict[str, Scalar]:
        """Each term's weighted loss on a batch; those that do not count at this step are left out."""
        view = self.view(batch, step)
        seen: dict[str, Seen] = {}
        started: dict[str, tuple[float, Callable[[], Scalar]]] = {}
        for branch, weights in self.method.branches.items():
            factors = {name: factor for name, weight in weights.items() if (factor := weight.at(step, self.steps))}
            seen[branch] = self._seen(branch, view, step, factors)
            for name, factor in factors.items():
                # Begun at once, so that it runs beside the next branch.
                started[self.method.named(branch, name)] = factor, self.term(name).start(seen[branch])
        for name, weight in self.method.between.items():
            factor = weight.at(step, self.steps)
            if factor:
                started[name] = factor, partial(cast(Between, self.between[name]).loss, *seen.values())
        losses = {name: loss() for name, (_, loss) in started.items()}
        weighted = {name: factor * losses[name] for name, (factor, _) in started.items()}
        if self.balance is None:
            return weighted
        root = seen[STUDENT].root
        assert root is not None
        balanced = self.balance.factors(losses, root, step)
        return {name: balanced[name] * loss for name, loss in weighted.items()}

    def _seen(self, branch: str, view: View, step: int, terms: Collection[str]) -> Seen:
        """What a branch made of the views, and what its teacher says of them where one of these terms asks."""
        if branch != STUDENT or self.teacher is None:
            return self.branch(branch).look(view)
        student = cast(StudentBranch, self.branches[branch])
        student.learns_prototypes = self.teacher.teaching.learns_prototypes(step, self.steps)
        seen = student.look(view)
        if not any(self.term(name).is_taught for name in terms):
            return seen
        taught = self.teacher.taught(view, step)
        self.teacher.note(taught)
        return replace(seen, taught=taught)

    def after(self, step: int) -> None:
        """What moves after the optimiser's step: the teacher, its centres, the remembered norms of gradients."""
        if self.teacher is not None:
            self.teacher.after(self.branch(STUDENT), step)
        if self.balance is not None:
            self.balance.after()

    def view(self, batch: Batch, step: int) -> View:
        """The views of this step, with cells of them hidden."""
        return self.showing.views(batch, self.windows, step)

    def look(self, batch: Batch, step: int) -> dict[str, Seen]:
        """What each branch makes of a batch at a step."""
        view = self.view(batch, step)
        return {name: self.branch(name).look(view) for name in self.branches}

    def branch(self, name: str) -> Branch:
        """A network with its heads."""
        return cast(Branch, self.branches[name])


def _shaped(shapes: Shapes, method: Method) -> Shapes:
    """The shapes, with what the method decides about a student."""
    teaching = method.teaching or Teaching()
    return replace(
        shapes,
        tap=teaching.tap,
        shares_heads=teaching.shares_heads,
        hides=method.hiding.ratio is not None,
        hidden_spread=method.hidden_spread,
        normalises_deep=method.normalises_deep,
    )


def _teacher(
    teaching: Teaching,
    shapes: Shapes,
    kernel: AttentionKernel,
    terms: Mapping[str, Term],
    settings: TermSettings,
    steps: int,
) -> Teacher:
    """A teacher of its own draw: as much of a student as is asked of it, which sees everything."""
    shown = replace(shapes, hides=False)
    makes = _made(terms, {}) & OF_A_TEACHER
    is_anchored = any(term.is_anchored for term in terms.values())
    return Teacher(
        StudentBranch(shown, kernel, makes, settings.add_up),
        StudentBranch(shown, kernel, frozenset({"tokens"})) if is_anchored else None,
        teaching,
        steps=steps,
        prototypes=shapes.projection.prototypes,
        settings=settings,
    )


def _build_term(shapes: Shapes, settings: TermSettings, name: str) -> Term:
    return choose(TERMS, name, "term")(shapes.encoder.windows_hu, settings)


def _made(terms: Mapping[str, Term], between: Mapping[str, Between]) -> frozenset[Made]:
    """What a branch must make for its own terms and for those between branches."""
    return frozenset[Made]().union(*(term.makes for term in (*terms.values(), *between.values())))


def _refuse_impossible(method: Method, terms: Mapping[str, Mapping[str, Term]], between: Mapping[str, Between]) -> None:
    units = {name: {term.unit for term in own.values()} - {None} for name, own in terms.items()}
    for branch, found in units.items():
        if len(found) > 1:
            raise ConfigError(
                f"terms of {branch} want its reconstruction {' and '.join(sorted(map(str, found)))}",
                where="method",
                fix="use reconstruct_voxels beside terms on the whole image",
            )
    if between and (len(method.branches) != 2 or len(set(map(frozenset, units.values()))) != 1):
        raise ConfigError(
            f"{', '.join(between)} compare two branches that make the same, not {', '.join(method.branches)}",
            where="method",
            fix="name two branches with the same reconstruction",
        )
    asks = sorted(name for own in terms.values() for name, term in own.items() if term.is_taught)
    if asks and (method.teaching is None or STUDENT not in terms):
        raise ConfigError(f"{', '.join(asks)} ask a teacher, and the method has none", where="method")
    if method.teaching is not None and not asks:
        raise ConfigError("the method has a teacher that no term asks", where="method")
    if not any(weight.is_constant for _, weight in method.weights()):
        raise ConfigError("no term counts at every step", where="weights", fix="give the reconstruction a weight")
