"""From a batch of crops to the views of a step: cut, turned, and with some of their cells hidden."""

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from apatite.core.types import Edges, Image
from apatite.data.batches import Batch
from apatite.data.hiding import Hidden, HidingLaw
from apatite.data.photometric import PhotometricConfig, vary
from apatite.data.views import Placed, ViewPlan, cut_views, place_views, turn
from apatite.nn.intensity import Windows
from apatite.nn.patches import patchify
from apatite.nn.swin.config import SwinConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.view import View


@dataclass(frozen=True, kw_only=True)
class Showing:
    """How crops are shown.

    Attributes:
        plan: Which views are cut from a crop.
        hiding: Which cells of the global ones are hidden.
        encoder: Says how large a view and a cell are, and through which windows it is seen.
        seed: Of all draws.
        photometric: How values of each view are changed.
    """

    plan: ViewPlan
    hiding: HidingLaw
    encoder: ViTConfig | SwinConfig
    seed: int
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)

    def refuse_impossible(self) -> None:
        """Refuse what would else be refused in the middle of a run.

        Raises:
            ConfigError: nothing of a view would stay visible, or it cannot be turned.
        """
        self.hiding.refuse(self.encoder.tokens)
        self.plan.refuse(self.encoder.crop)

    def views(self, batch: Batch, windows: Windows, step: int) -> View:
        """The views of a step.

        Args:
            batch: Crops in HU, which samples they are, and where they lie.
            windows: Of the encoder.
            step: Of the run.
        """
        images = batch.images_hu
        cell, plan = self.encoder.cell, self.plan
        hidden = self.hiding.hide(self.seed, step, batch.sample_ids, self.encoder.tokens, views=plan.count)
        hiding = hidden.to(images.device)
        if plan.is_whole:
            return View(
                patches=patchify(windows(self._varied(images, batch, step)), cell),
                hiding=hiding,
                tokens=self.encoder.tokens,
                patch=cell,
                places=batch.places,
            )
        placed = self._placed(batch, images, step)
        cut, turns = cut_views(images, placed.starts, self.encoder.crop), None
        if placed.turns is not None:
            turns = placed.turns.flatten()
            cut = turn(cut, turns)
        return View(
            patches=patchify(windows(self._varied(cut, batch, step)), cell),
            hiding=hiding,
            tokens=self.encoder.tokens,
            patch=cell,
            num_views=plan.count,
            starts=placed.starts.to(images.device),
            turns=None if turns is None else turns.to(images.device),
            local=self._local(batch, windows, placed.local_starts, step) if plan.local_count else None,
        )

    @property
    def _local_edges(self) -> Edges:
        return self.plan.local_of(self.encoder.crop, self.encoder.cell)

    def _placed(self, batch: Batch, images: Image, step: int) -> Placed:
        return place_views(
            self.seed,
            step,
            batch.sample_ids,
            parent=(images.shape[2], images.shape[3], images.shape[4]),
            crop=self.encoder.crop,
            local=self._local_edges,
            cell=self.encoder.cell,
            plan=self.plan,
        )

    def _varied(self, images_hu: Image, batch: Batch, step: int, first: int = 0) -> Image:
        """Views with their values changed, each view by its own draws; local ones are counted on from the global."""
        if not self.photometric.is_on:
            return images_hu
        views = images_hu.chunk(len(images_hu) // len(batch.case_ids))
        draws = (self.photometric, self.seed, step, batch.sample_ids)
        return torch.cat([vary(part, *draws, view) for view, part in enumerate(views, first)])

    def _local(self, batch: Batch, windows: Windows, starts: Tensor, step: int) -> View:
        """Smaller views, of which nothing is hidden."""
        cut, grid = cut_views(batch.images_hu, starts, self._local_edges), self.encoder.grid_of(self._local_edges)
        nothing = torch.zeros(len(cut), prod(grid), dtype=torch.bool)
        return View(
            patches=patchify(windows(self._varied(cut, batch, step, first=self.plan.count)), self.encoder.cell),
            hiding=Hidden(is_hidden=nothing).to(cut.device),
            tokens=grid,
            patch=self.encoder.cell,
            num_views=self.plan.local_count,
        )
