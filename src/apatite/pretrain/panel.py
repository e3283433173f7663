"""The health panel of a run: looked at every few epochs, written to the journal.

It looks at cases of the pre-training splits: some fixed ones for the reconstruction, and the labelled ones of the
fine-tuning split for the probe. Only where the method asks for places it looks at scans of the development split as
well, from which nothing is learned (`places_check`). Everything about it is fixed by the seed, so its numbers can be
compared along a run and between runs.
"""

import math
from functools import partial

import torch
from einops import rearrange
from safetensors.torch import save
from torch import Tensor

from apatite.data.batches import Batch, Batches
from apatite.data.sources import open_source
from apatite.io.store import Prepared
from apatite.nn.patches import patchify
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.health import effective_rank, reconstruction_health, reconstruction_pictures
from apatite.pretrain.learned import learned_rows
from apatite.pretrain.places_check import held_out_places, held_out_point_error_mm
from apatite.pretrain.probe import probe_dice
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.terms import Reconstruction
from apatite.pretrain.view import Points, Seen

NUM_CASES = 16
NUM_PROBE_CASES = 48
NUM_PICTURES = 4
FIXED_STEP = 2**31
"""A step that no run reaches: its draws belong to the panel."""


class HealthPanel:
    """Reconstruction against baselines, effective rank, linear probe.

    Args:
        task: What is trained.
        prepared: The prepared folder it is trained on.
        config: The run.
    """

    def __init__(self, task: PretrainTask, prepared: Prepared, config: PretrainConfig) -> None:
        self.task, self.device = task, config.precision.device if config.precision else "cpu"
        self.shown = self._batch(
            prepared, config, prepared.case_index("pretrain", "finetune")[:NUM_CASES].tolist(), labelled=False
        )
        labelled = [row for row in prepared.case_index("finetune").tolist() if prepared.is_annotated[row].any()][
            :NUM_PROBE_CASES
        ]
        self.probed = self._batch(prepared, config, labelled, labelled=True) if labelled else None
        self.locating = [name for name, branch in task.branches.items() if branch.locate is not None]
        self.held_out = (
            held_out_places(prepared, learned_rows(config, prepared), config.crop, config.seed, config.hold_out)
            if self.locating
            else None
        )

    def _batch(self, prepared: Prepared, config: PretrainConfig, rows: list[int], *, labelled: bool) -> Batch:
        source = open_source(prepared, rows, config.crop)
        return Batches(source, len(rows), config.seed, labelled=labelled)(0).to(self.device)

    @torch.no_grad()
    def check(self, done: int) -> dict[str, float]:
        """One row of the panel after `done` steps; numbers of a branch bear its name where there are two."""
        del done
        looks = self.task.look(self.shown, FIXED_STEP)
        row: dict[str, float] = {}
        for branch, seen in looks.items():
            prefix = "" if len(looks) == 1 else f"{branch}."
            row |= {f"{prefix}{name}": value for name, value in self._branch(branch, seen).items()}
        return row | self._probe() | self._places()

    def _branch(self, branch: str, seen: Seen) -> dict[str, float]:
        row = {}
        for term in self._reconstructions(branch):
            found = reconstruction_health(term, seen)
            row = {
                "reconstruction": found.error,
                "patch_mean": found.patch_mean_error,
                "interpolation": found.interpolation_error,
            }
        return row | {"effective_rank": effective_rank(rearrange(seen.features, "b n c -> (b n) c").float())}

    def _reconstructions(self, branch: str) -> list[Reconstruction]:
        terms = (self.task.term(name) for name in self.task.method.branches[branch])
        return [term for term in terms if isinstance(term, Reconstruction)]

    def _probe(self) -> dict[str, float]:
        """What the transformer's frozen features know of the labels."""
        if self.probed is None or self.probed.targets is None or "vit" not in self.task.branches:
            return {}
        encoder = self.task.encoder
        features = torch.cat([encoder(encoder.patches_of(image[None])) for image in self.probed.images_hu])
        target = self.probed.targets.amax(dim=1, keepdim=True)
        dice = probe_dice(features.float(), patchify(target, encoder.config.patch))
        # Left out where it means nothing: too few cases, or none with foreground.
        return {} if math.isnan(dice) else {"probe_dice": dice}

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
            for term in self._reconstructions(branch):
                original, visible, made = reconstruction_pictures(term, seen)
                # The first branch is `reconstruction`, another one bears its name.
                name = f"reconstruction_{branch}" if "reconstruction" in pictures else "reconstruction"
                pictures |= {"original": original, "visible": visible, name: made}
        return save({name: picture[:NUM_PICTURES].float().cpu().contiguous() for name, picture in pictures.items()})
