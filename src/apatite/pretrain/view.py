"""The views of a batch, and what one branch made of them: what terms are functions of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from apatite.core.types import Edges, Image, IsHidden, Projected, Rows, TokenChoice, Tokens
from apatite.data.hiding import Hidden
from apatite.data.places import CropPlaces
from apatite.losses.position import Points
from apatite.nn.contrast_head import Contrasted
from apatite.nn.patches import place_tokens, take_tokens, unpatchify
from apatite.nn.turn_head import Turns

Project = Callable[[Float[Tensor, "rows width"]], Projected]
"""A head: from tokens to points among its prototypes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What every branch is given: the same views of the same crops with the same cells hidden.

    Where a sample has several views they follow each other view by view: all samples of the first, then all of the
    second; `batch` below counts them all.

    Attributes:
        patches: All cells in network units, `batch cells (cell voxels x channels)`.
        hiding: Which cells may be seen and which may not.
        tokens: Cells along depth, height, width.
        patch: Edges of a cell in voxels.
        places: Where the crops lie in their volumes; `None` where the batch does not say, or views are cut from crops.
        num_views: Of each sample.
        starts: First voxel of each view in the crop that it is cut from, `views samples 3`; `None` for whole crops.
        turns: By how many quarter turns each view is turned; `None` where none is.
        local: Smaller views of the same samples, of which nothing is hidden; `None` where there are none.
    """

    patches: Rows
    hiding: Hidden
    tokens: Edges
    patch: Edges
    places: CropPlaces | None = None
    num_views: int = 1
    starts: Int64[Tensor, "views samples 3"] | None = None
    turns: Int64[Tensor, "batch"] | None = None
    local: "View | None" = None

    @property
    def visible(self) -> TokenChoice:
        """Which cells may be seen; only where every view hides as many."""
        return self.hiding.visible

    @property
    def hidden(self) -> TokenChoice:
        """Which cells may not be seen; only where every view hides as many."""
        return self.hiding.hidden

    @property
    def is_hidden(self) -> IsHidden:
        """True where a cell may not be seen."""
        return self.hiding.is_hidden

    @property
    def channels(self) -> int:
        """Channels of the image: one per window."""
        return self.patches.shape[2] // (self.patch[0] * self.patch[1] * self.patch[2])

    @property
    def edges(self) -> Edges:
        """Of a view in voxels."""
        (z, y, x), (d, h, w) = self.tokens, self.patch
        return z * d, y * h, x * w

    def hidden_patches(self) -> Rows:
        """The true hidden cells: `batch hidden (cell voxels x channels)`."""
        return take_tokens(self.patches, self.hidden)

    def image(self) -> Image:
        """The whole views, `batch channels depth height width`, in network units."""
        return unpatchify(self.patches, self.tokens, self.patch)

    def image_with(self, hidden: Rows) -> Image:
        """The views with their hidden cells replaced by these rows."""
        return unpatchify(place_tokens(self.patches, hidden, self.hidden), self.tokens, self.patch)

    def hidden_voxels(self) -> Image:
        """1 where a voxel is hidden and 0 elsewhere, for every channel."""
        rows = self.is_hidden[..., None].to(self.patches.dtype).expand_as(self.patches)
        return unpatchify(rows, self.tokens, self.patch)

    def clean(self) -> "View":
        """The same global views with nothing hidden, which is what a teacher sees."""
        return replace(self, hiding=Hidden(is_hidden=torch.zeros_like(self.is_hidden)), local=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Heads:
    """What a branch projects its tokens with; `None` where no term asks."""

    cells: Project | None = None
    views: Project | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What a teacher says of some rows: a distribution over prototypes for each.

    Attributes:
        projected: Its points among its prototypes.
        offset: What is added to every logit before the softmax, so that no prototype takes all.
        temperature: By which logits are divided.
    """

    projected: Projected
    offset: Float[Tensor, "prototypes"]
    temperature: float

    def rows(self, chosen: Bool[Tensor, "rows"] | Int64[Tensor, "chosen"]) -> "Target":
        """What it says of some of the rows."""
        points = Projected(points=self.projected.points[chosen], prototypes=self.projected.prototypes)
        return replace(self, projected=points)


@dataclass(frozen=True, kw_only=True, eq=False)
class Taught:
    """What the teacher made of the clean views.

    Attributes:
        cells: Of every cell, `batch x cells` rows; `None` where no term asks.
        views: Of every global view, `batch` rows; likewise.
        contrasted: Of every global view, for the term of contrast; likewise.
        anchor: Tokens that an earlier teacher made of the clean views; likewise.
    """

    cells: Target | None = None
    views: Target | None = None
    contrasted: Contrasted | None = None
    anchor: Tokens | None = None

    def made_contrast(self) -> Contrasted:
        """Keys and queries, which are there where a term asks for them."""
        assert self.contrasted is not None
        return self.contrasted


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What one branch made of the views.

    Attributes:
        view: What it was given.
        features: One row per place that it encoded: the visible tokens, all cells, or the elements of its coarsest map.
        reconstruction: Its hidden cells, `batch hidden (cell voxels x channels)`; `None` where no term asks.
        points: Where it believes the crops to lie; `None` where no term asks.
        image: All of the views as it believes them to be, in network units; `None` where no term asks.
        tokens: Normalised tokens of the tap; `None` for branches without one.
        root: What all terms of a student have in common: their gradients meet here.
        heads: What the tokens may be projected with.
        contrasted: Keys and queries of every global view; `None` where no term asks.
        turns: Of every global view the logits of each quarter turn; `None` where no term asks.
        local: What it made of the local views; `None` where there are none.
        taught: What its teacher says; `None` without one.
    """

    view: View
    features: Rows
    reconstruction: Rows | None = None
    points: Points | None = None
    image: Image | None = None
    tokens: Tokens | None = None
    root: Tensor | None = None
    heads: Heads = field(default_factory=Heads)
    contrasted: Contrasted | None = None
    turns: Turns | None = None
    local: "Seen | None" = None
    taught: Taught | None = None

    def made_patches(self) -> Rows:
        """The reconstruction, in fp32 whatever it was computed in.

        A term that asks for it says so in `makes`, so that it is always there.
        """
        assert self.reconstruction is not None
        return self.reconstruction.float()

    def made_points(self) -> Points:
        """The places, likewise."""
        assert self.points is not None
        return self.points.float()

    def made_contrast(self) -> Contrasted:
        """Keys and queries, likewise."""
        assert self.contrasted is not None
        return self.contrasted

    def made_turns(self) -> Turns:
        """Logits of the turns, likewise."""
        assert self.turns is not None
        return self.turns

    @property
    def view_tokens(self) -> Float[Tensor, "batch dim"]:
        """One row per view: the mean of its normalised tokens, in the place of a class token."""
        assert self.tokens is not None
        return self.tokens.mean(dim=1)

    @cached_property
    def hidden_cells(self) -> Projected:
        """The projections of all hidden cells, in one list of rows: view by view, ascending in each."""
        assert self.tokens is not None
        assert self.heads.cells is not None
        return self.heads.cells(self.tokens[self.view.is_hidden])

    @cached_property
    def all_cells(self) -> Projected:
        """The projections of all cells, in one list of rows: view by view."""
        assert self.tokens is not None
        assert self.heads.cells is not None
        return self.heads.cells(self.tokens.flatten(0, 1))

    @cached_property
    def views(self) -> Projected:
        """The projections of the views."""
        assert self.heads.views is not None
        return self.heads.views(self.view_tokens)
