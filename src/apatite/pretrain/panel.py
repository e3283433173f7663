"""The health panel of a run: looked at every few epochs, written to the journal.

It looks at cases of the pre-training splits: some fixed ones for the reconstruction, the features and the teacher, and
the labelled ones of the fine-tuning split for the probe. Only where the method asks for places it looks at scans of the
development split as well, from which nothing is learned (`places_check`). Everything about it is fixed by the seed, so
its numbers can be compared along a run and between runs; it changes nothing by looking.
"""

import math
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from apatite.core.types import Edges, Image, Rows
from apatite.data.batches import Batch, Batches
from apatite.data.sources import open_source
from apatite.io.store import Prepared
from apatite.nn.patches import patchify
from apatite.pretrain.branches import StudentBranch
from apatite.pretrain.collapse import BEGINS, collapse_reasons
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.health import (
    effective_rank,
    feature_spread,
    reconstruction_health,
    reconstruction_pictures,
    teacher_numbers,
)
from apatite.pretrain.learned import learned_rows
from apatite.pretrain.places_check import held_out_places, held_out_point_error_mm
from apatite.pretrain.probe import probe_dice
from apatite.pretrain.shapes import parent_edges
from apatite.pretrain.task import STUDENT, PretrainTask
from apatite.pretrain.terms import Reconstruction
from apatite.pretrain.view import Points, Seen

NUM_CASES = 16
NUM_PROBE_CASES = 48
NUM_PICTURES = 4
FIXED_STEP = 2**31
"""A step that no run reaches: its draws belong to the panel."""


class HealthPanel:
    """Reconstruction against baselines, features, what a teacher says, whether it collapsed, linear probe.

    Args:
        task: What is trained.
        prepared: The prepared folder it is trained on.
        config: The run.
    """

    def __init__(self, task: PretrainTask, prepared: Prepared, config: PretrainConfig) -> None:
        self.task, self.device = task, config.precision.device if config.precision else "cpu"
        parent = parent_edges(config, prepared)
        shown = prepared.case_index("pretrain", "finetune")[:NUM_CASES].tolist()
        self.shown = self._batch(prepared, shown, parent, config.seed, labelled=False)
        labelled = [row for row in prepared.case_index("finetune").tolist() if prepared.is_annotated[row].any()][
            :NUM_PROBE_CASES
        ]
        crop = None if prepared.kind == "region" else config.crop
        self.probed = self._batch(prepared, labelled, crop, config.seed, labelled=True) if labelled else None
        self.locating = [name for name, branch in task.branches.items() if branch.locate is not None]
        self.held_out = (
            held_out_places(prepared, learned_rows(config, prepared), config.crop, config.seed, config.hold_out)
            if self.locating
            else None
        )

    def _batch(self, prepared: Prepared, rows: list[int], crop: Edges | None, seed: int, *, labelled: bool) -> Batch:
        source = open_source(prepared, rows, crop)
        return Batches(source, len(rows), seed, labelled=labelled)(0).to(self.device)

    @torch.no_grad()
    def check(self, done: int) -> dict[str, float]:
        """One row of the panel after `done` steps; numbers of a branch bear its name where there are two."""
        row: dict[str, float] = {}
        for branch, seen in self.task.look(self.shown, FIXED_STEP).items():
            found = self._branch(branch, seen)
            row |= {self.task.method.named(branch, name): value for name, value in found.items()}
            if branch == STUDENT:
                is_early = done < BEGINS * self.task.steps
                reasons = collapse_reasons(found, self.task.shapes.projection.prototypes)
                row["is_collapsed"] = float(bool(reasons) and not is_early)
        return row | self._probe() | self._places()

    def _branch(self, branch: str, seen: Seen) -> dict[str, float]:
        row = {}
        for term in self._reconstructions(branch, seen):
            found = reconstruction_health(term, seen)
            row = {
                "reconstruction": found.error,
                "patch_mean": found.patch_mean_error,
                "interpolation": found.interpolation_error,
            }
        if branch != STUDENT:
            return row | {"effective_rank": effective_rank(seen.features.flatten(0, 1).float())}
        tokens = self._clean_tokens(seen.view.image()).float()
        row |= {
            "effective_rank": effective_rank(tokens.flatten(0, 1)),
        }
        if len(tokens) > 1:  # of one crop there is nothing to be apart from
            row["feature_spread"] = feature_spread(tokens.mean(1))
        if self.task.teacher is not None:
            row |= teacher_numbers(self.task.teacher.taught(seen.view, FIXED_STEP), seen.view.is_hidden)
        return row

    def _reconstructions(self, branch: str, seen: Seen) -> list[Reconstruction]:
        """The terms whose reconstruction can be compared, which is one of as many cells of each view."""
        terms = (self.task.term(name) for name in self.task.method.branches[branch])
        return [term for term in terms if isinstance(term, Reconstruction) and seen.reconstruction is not None]

    def _clean_tokens(self, image: Image) -> Rows:
        """What a student makes of windowed images when nothing is hidden, where its terms read it."""
        student = cast(StudentBranch, self.task.branch(STUDENT))
        tapped = student.encoder.taps(image).at(student.tap)
        return tapped if student.norm is None else student.norm(tapped)

    def _probe(self) -> dict[str, float]:
        """What the transformer's frozen features know of the labels."""
        if self.probed is None or self.probed.targets is None or not {"vit", STUDENT} & set(self.task.branches):
            return {}
        cell = self.task.shapes.encoder.cell
        images_hu, target = (
            _whole_cells(part, cell) for part in (self.probed.images_hu, self.probed.targets.amax(dim=1, keepdim=True))
        )
        features = torch.cat([self._frozen(image[None]) for image in images_hu])
        dice = probe_dice(features.float(), patchify(target, cell))
        # Left out where it means nothing: too few cases, or none with foreground.
        return {} if math.isnan(dice) else {"probe_dice": dice}

    def _frozen(self, image_hu: Image) -> Rows:
        """One row of features per cell of a clean crop."""
        if STUDENT in self.task.branches:
            return self._clean_tokens(self.task.windows(image_hu))
        return self.task.encoder(self.task.encoder.patches_of(image_hu))

    def _places(self) -> dict[str, float]:
        """How far off the branches are on held-out scans, in mm."""
        locate = {name: partial(self._points, name) for name in self.locating}
        return held_out_point_error_mm(locate, self.held_out, self.device)

    def _points(self, branch: str, batch: Batch) -> Points:
        return self.task.branch(branch).look(self.task.view(batch, FIXED_STEP)).made_points()

    @torch.no_grad()
    def pictures(self) -> bytes:
        """Original, visible and reconstructed crops of a few cases as safetensors, in network units."""
        self.task.eval()  # a finished run that is resumed has no check that would have set it
        pictures: dict[str, Tensor] = {}
        for branch, seen in self.task.look(self.shown, FIXED_STEP).items():
            for term in self._reconstructions(branch, seen):
                original, visible, made = reconstruction_pictures(term, seen)
                # The first branch is `reconstruction`, another one bears its name.
                name = f"reconstruction_{branch}" if "reconstruction" in pictures else "reconstruction"
                pictures |= {"original": original, "visible": visible, name: made}
        return save({name: picture[:NUM_PICTURES].float().cpu().contiguous() for name, picture in pictures.items()})


def _whole_cells(image: Image, cell: Edges) -> Float[Tensor, "batch channels _ _ _"]:
    """The middle of an image, as much as is whole cells: views are cut from regions of any edges."""
    for axis, size in enumerate(cell, start=2):
        rest = image.shape[axis] % size
        image = image.narrow(axis, rest // 2, image.shape[axis] - rest)
    return image
