"""The task that the loop minimises: the branches of a method, and its weighted terms."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import cast

from torch import nn

from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.types import Scalar
from apatite.data.batches import Batch
from apatite.data.hiding import hide_randomly, num_visible
from apatite.nn.attention import AttentionKernel
from apatite.nn.intensity import Windows
from apatite.nn.patches import patchify
from apatite.nn.vit import ViT
from apatite.pretrain.between import BETWEEN, Between
from apatite.pretrain.branches import BRANCHES, Branch, Made, Shapes
from apatite.pretrain.methods import Method
from apatite.pretrain.terms import TERMS, Term, TermSettings
from apatite.pretrain.view import Seen, View


class PretrainTask(nn.Module):
    """The networks with the terms of a method.

    Args:
        method: Branches, weighted terms, and the hidden ratio.
        shapes: Of the networks.
        kernel: How attention is computed.
        seed: Of the hidden patches.
        steps: Length of the run, of which weights are functions.
        settings: Of the terms.

    Raises:
        ConfigError: the ratio leaves nothing visible or nothing hidden; terms of one branch, or of two that are
            compared, want its reconstruction in different units; a term between branches has not two; no term counts
            at every step.
    """

    def __init__(
        self,
        method: Method,
        shapes: Shapes,
        kernel: AttentionKernel,
        seed: int,
        *,
        steps: int,
        settings: TermSettings | None = None,
    ) -> None:
        super().__init__()
        num_visible(shapes.vit.num_tokens, method.hidden_ratio)  # an impossible ratio is refused before any step
        self.method, self.shapes, self.seed, self.steps = method, shapes, seed, steps
        # One term for all branches: what it remembers of the input, such as diagrams, serves them all.
        build = partial(_build_term, shapes, settings or TermSettings())
        shared = {name: build(name) for name in dict.fromkeys(chain(*method.branches.values()))}
        terms = {branch: {name: shared[name] for name in weights} for branch, weights in method.branches.items()}
        between = {name: choose(BETWEEN, name, "term between branches")() for name in method.between}
        _refuse_impossible(method, terms, between)
        for term in shared.values():
            term.refuse(shapes.vit.crop)
        # Weights are drawn in this order, branch by branch; terms have none.
        self.branches = nn.ModuleDict(
            {name: choose(BRANCHES, name, "branch")(shapes, kernel, _made(own, between)) for name, own in terms.items()}
        )
        self.terms = nn.ModuleDict(shared)
        self.between = nn.ModuleDict(between)
        self.windows = Windows(shapes.vit.windows_hu)

    @property
    def module(self) -> nn.Module:
        """All that learns."""
        return self

    @property
    def encoder(self) -> ViT:
        """The transformer's encoder.

        Raises:
            AttributeError: the method has no transformer.
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
            seen[branch] = self.branch(branch).look(view)
            for name, weight in weights.items():
                factor = weight.at(step, self.steps)
                if factor:
                    # Begun at once, so that it runs beside the next branch.
                    said = name if len(self.method.branches) == 1 else f"{branch}.{name}"
                    started[said] = factor, self.term(name).start(seen[branch])
        for name, weight in self.method.between.items():
            factor = weight.at(step, self.steps)
            if factor:
                started[name] = factor, partial(cast(Between, self.between[name]).loss, *seen.values())
        return {name: factor * loss() for name, (factor, loss) in started.items()}

    def view(self, batch: Batch, step: int) -> View:
        """Hide patches for this step."""
        vit = self.shapes.vit
        visible, hidden = hide_randomly(self.seed, step, batch.sample_ids, vit.num_tokens, self.method.hidden_ratio)
        device = batch.images_hu.device
        return View(
            patches=patchify(self.windows(batch.images_hu), vit.patch),
            visible=visible.to(device),
            hidden=hidden.to(device),
            tokens=vit.tokens,
            patch=vit.patch,
            places=batch.places,
        )

    def look(self, batch: Batch, step: int) -> dict[str, Seen]:
        """What each branch makes of a batch at a step."""
        view = self.view(batch, step)
        return {name: self.branch(name).look(view) for name in self.branches}

    def branch(self, name: str) -> Branch:
        """A network with its heads."""
        return cast(Branch, self.branches[name])


def _build_term(shapes: Shapes, settings: TermSettings, name: str) -> Term:
    return choose(TERMS, name, "term")(shapes.vit.windows_hu, settings)


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
    if not any(weight.is_constant for _, weight in method.weights()):
        raise ConfigError("no term counts at every step", where="weights", fix="give the reconstruction a weight")
