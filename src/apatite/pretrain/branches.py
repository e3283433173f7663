"""The networks that are pre-trained, each a branch that makes of a view what its terms ask for.

A branch owns the heads of what several terms may share: the reconstruction of hidden patches, the place of the crop.
All branches of a method see the same crops with the same patches hidden; the transformer leaves hidden patches out, a
network of convolutions, which cannot, sees them blank, and a student has one learned vector in their place.

Source: the masked autoencoder, He et al. 2022 (arXiv 2111.06377); two branches after Gu et al. 2024 (arXiv 2406.10519).
Differs: how the paper feeds UNETR++ and where its position heads sit is not known. Here hidden patches are blanked with
0, the middle of each window; the ViT's head reads the mean of its visible tokens (it has no class token), that of
UNETR++ the mean of its coarsest map.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch
from einops import rearrange
from torch import nn

from apatite.core.errors import ConfigError
from apatite.core.types import Edges, Image, Rows
from apatite.losses.hidden_voxels import to_voxels
from apatite.losses.overlap import Sum, as_it_is
from apatite.losses.position import Points
from apatite.nn.attention import AttentionKernel
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.decoders.tokens import FillingDecoder, TokenDecoderConfig
from apatite.nn.drop_path import draw_for_views
from apatite.nn.patches import patchify, take_tokens
from apatite.nn.projection import ProjectionConfig, ProjectionHead
from apatite.nn.swin.config import SwinConfig
from apatite.nn.taps import Tap
from apatite.nn.turn_head import TurnHead
from apatite.nn.unetrpp.network import UNETRPPConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.term import Made
from apatite.pretrain.view import Heads, Project, Seen, View

NUM_POINTS = 9
NORM_EPSILON = 1e-6
"""Of the norm before a student's heads, as released."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Shapes of the networks of a method.

    Attributes:
        encoder: The transformer; its crop, windows and cells are those of the views, whether it takes part or not.
        decoder: Of the masked autoencoder.
        unetrpp: UNETR++; `None` where no branch is one.
        projection: Of a student's heads of self-distillation.
        contrast: Of a student's head of contrast.
        tap: Where a student's tokens are read.
        shares_heads: Whether a student projects cells and views by one head.
        hides: Whether cells of a student's views are ever hidden.
        hidden_spread: Of the first values of what stands for a hidden cell.
        normalises_deep: Whether a student's last tokens pass a norm before they are made voxels.
    """

    encoder: ViTConfig | SwinConfig
    decoder: TokenDecoderConfig = field(default_factory=TokenDecoderConfig)
    unetrpp: UNETRPPConfig | None = None
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    tap: Tap = "stage4"
    shares_heads: bool = False
    hides: bool = True
    hidden_spread: float = 0.02
    normalises_deep: bool = False

    @property
    def vit(self) -> ViTConfig:
        """The transformer where only a ViT will do.

        Raises:
            ConfigError: it is a Swin.
        """
        if not isinstance(self.encoder, ViTConfig):
            raise ConfigError(
                "a Swin cannot leave hidden patches out",
                where="model",
                fix="use a ViT such as vitiac-s, or a method that puts a token in their place, such as simmim",
            )
        return self.encoder


class Branch(nn.Module, ABC):
    """One network and the heads that its terms ask for."""

    @abstractmethod
    def look(self, view: View) -> Seen:
        """What the network makes of a view."""


class ViTBranch(Branch):
    """The masked autoencoder: an encoder of visible patches, and a small decoder that fills in the hidden ones."""

    def __init__(self, shapes: Shapes, kernel: AttentionKernel, makes: frozenset[Made], add_up: Sum = as_it_is) -> None:
        super().__init__()
        del add_up
        self.encoder = shapes.vit.build(kernel)
        channels = len(shapes.vit.windows_hu)
        self.reconstruct = (
            FillingDecoder(shapes.vit, shapes.decoder, channels, kernel) if "reconstruction" in makes else None
        )
        self.locate = PointHead(shapes.vit.dim) if "points" in makes else None

    def look(self, view: View) -> Seen:
        """Encode the visible patches, and make of them what is asked for."""
        tokens = self.encoder(view.patches, view.visible)
        return Seen(
            view=view,
            features=tokens,
            reconstruction=None if self.reconstruct is None else self.reconstruct(tokens, view.visible, view.hidden),
            points=None if self.locate is None else self.locate(tokens),
        )


class UNETRPPBranch(Branch):
    """UNETR++ on the blanked image, with one output per input channel in place of labels."""

    def __init__(self, shapes: Shapes, kernel: AttentionKernel, makes: frozenset[Made], add_up: Sum = as_it_is) -> None:
        super().__init__()
        del kernel, add_up  # its attention is along other axes
        if shapes.unetrpp is None:
            raise ConfigError("a branch is a UNETR++, but no shape is given for one", where="unetrpp")
        channels = len(shapes.encoder.windows_hu)
        self.network = shapes.unetrpp.build(outputs=channels, deep=False)
        self.locate = PointHead(shapes.unetrpp.widths[-1]) if "points" in makes else None

    def look(self, view: View) -> Seen:
        """Look at the image without its hidden patches."""
        image = view.image_with(torch.zeros_like(view.hidden_patches()))
        stages = self.network.stages(image)
        filled = self.network.outputs(image, stages)[0]
        features = patchify(stages[-1], (1, 1, 1))
        return Seen(
            view=view,
            features=features,
            reconstruction=take_tokens(patchify(filled, view.patch), view.hidden),
            points=None if self.locate is None else self.locate(features),
        )


class PointHead(nn.Module):
    """From the mean of a branch's features to nine points in the volume, which begin in its middle."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, NUM_POINTS * 3)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.constant_(self.linear.bias, 0.5)

    def forward(self, features: Rows) -> Points:
        """Fractions of the volume; nothing keeps them between 0 and 1."""
        # In bf16 a place would be known to a hundredth of the volume.
        with torch.autocast(features.device.type, enabled=False):
            points = self.linear(features.float().mean(dim=1))
        return rearrange(points, "b (points axes) -> b points axes", axes=3)


class StudentBranch(Branch):
    """A ViT or a Swin that sees all cells, one learned vector in the place of hidden ones, and the heads on its tokens.

    Without that vector it sees everything: so does a student from which nothing is hidden, and every teacher.

    Attributes:
        learns_prototypes: Whether the prototypes of its heads learn; not in the first steps of a run.
    """

    def __init__(self, shapes: Shapes, kernel: AttentionKernel, makes: frozenset[Made], add_up: Sum = as_it_is) -> None:
        super().__init__()
        config = shapes.encoder
        self.encoder = config.build(kernel)
        self.tap: Tap = shapes.tap
        self.hidden_token = nn.Parameter(torch.zeros(config.embed_dim)) if shapes.hides else None
        if self.hidden_token is not None and shapes.hidden_spread:
            nn.init.trunc_normal_(self.hidden_token, std=shapes.hidden_spread)
        self.norm = nn.LayerNorm(config.tap_dim, eps=NORM_EPSILON) if makes & {"tokens", "cells", "views"} else None
        self.reconstruct = VoxelHead(config, normalises=shapes.normalises_deep) if "reconstruction" in makes else None
        build = partial(shapes.projection.build, config.tap_dim, by_onednn=kernel.by_onednn)
        self.project_cells = build() if "cells" in makes else None
        is_shared = shapes.shares_heads and self.project_cells is not None
        self.project_views = build() if "views" in makes and not is_shared else None
        self.projects_views_as_cells = "views" in makes and is_shared
        self.contrast = shapes.contrast.build(config.tap_dim, add_up) if "contrast" in makes else None
        self.turn = TurnHead(config.tap_dim) if "turn" in makes else None
        self.locate = None  # nothing asks where a student's views lie
        self.learns_prototypes = True

    def look(self, view: View) -> Seen:
        """Look at all cells, the hidden ones replaced, and make of them what is asked for."""
        hides = self.hidden_token is not None
        draw_for_views(self.encoder, view.num_views)
        taps = self.encoder.taps(view.image(), view.is_hidden if hides else None, self.hidden_token)
        tapped = taps.at(self.tap)
        tokens = None if self.norm is None else self.norm(tapped)
        image: Image | None = None if self.reconstruct is None else self.reconstruct(taps.deep, view.edges)
        reconstruction = None
        if image is not None and view.hiding.has_equal_counts:
            reconstruction = take_tokens(patchify(image, view.patch), view.hidden)
        return Seen(
            view=view,
            features=tapped if tokens is None else tokens,
            reconstruction=reconstruction,
            image=image,
            tokens=tokens,
            root=taps.roots[self.tap],
            heads=self.heads,
            contrasted=None if self.contrast is None else self.contrast(tapped, views=view.num_views),
            turns=None if self.turn is None else self.turn(tapped),
            local=None if view.local is None else self._look_at_local(view.local),
        )

    def _look_at_local(self, view: View) -> Seen:
        """Of the smaller views nothing is hidden, and only their projections are of use."""
        draw_for_views(self.encoder, view.num_views)
        tapped = self.encoder.taps(view.image()).at(self.tap)
        tokens = None if self.norm is None else self.norm(tapped)
        return Seen(view=view, features=tapped, tokens=tokens, heads=self.heads)

    @property
    def heads(self) -> Heads:
        """What cells and views are projected with."""
        views = self.project_cells if self.projects_views_as_cells else self.project_views
        return Heads(cells=self._projecting(self.project_cells), views=self._projecting(views))

    def _projecting(self, head: ProjectionHead | None) -> Project | None:
        return None if head is None else partial(head, learns_prototypes=self.learns_prototypes)


class VoxelHead(nn.Module):
    """From each of the last tokens the voxels that it stands for, by one linear layer.

    Source: the released code of SMIT: one 1×1×1 convolution and depth to space, nothing before or after; SimMIM's
    (Xie et al. 2022, arXiv 2111.09886) reads normalised tokens.
    """

    def __init__(self, config: ViTConfig | SwinConfig, *, normalises: bool) -> None:
        super().__init__()
        self.config = config
        depth, height, width = config.deep_cell
        self.norm = nn.LayerNorm(config.deep_dim) if normalises else nn.Identity()
        self.linear = nn.Linear(config.deep_dim, depth * height * width * len(config.windows_hu))

    def forward(self, deep: Rows, edges: Edges) -> Image:
        """An image of these edges, `batch windows depth height width`, in network units."""
        return to_voxels(self.linear(self.norm(deep)), self.config.deep_grid_of(edges), self.config.deep_cell, edges)


BuildBranch = Callable[[Shapes, AttentionKernel, frozenset[Made], Sum], Branch]

BRANCHES: Final[dict[str, BuildBranch]] = {
    "vit": ViTBranch,
    "unetrpp": UNETRPPBranch,
    "student": StudentBranch,
}
