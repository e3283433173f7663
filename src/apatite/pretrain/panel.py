"""The health panel of a run: looked at every few epochs, written to the journal.

It looks at cases of the pre-training splits only: some fixed ones for the reconstruction, and the labelled ones of
the fine-tuning split for the probe. Everything about it is fixed by the seed, so its numbers can be compared along a
run and between runs.
"""

import math

import torch
from einops import rearrange
from safetensors.torch import save

from apatite.data.batches import Batch, Batches
from apatite.data.sources import open_source
from apatite.io.store import Prepared
from apatite.nn.patches import patchify
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.health import effective_rank, reconstruction_health, reconstruction_pictures
from apatite.pretrain.methods import PretrainTask
from apatite.pretrain.probe import probe_dice
from apatite.pretrain.terms import ReconstructHidden

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

    def _batch(self, prepared: Prepared, config: PretrainConfig, rows: list[int], *, labelled: bool) -> Batch:
        source = open_source(prepared, rows, config.crop)
        return Batches(source, len(rows), config.seed, labelled=labelled)(0).to(self.device)

    @torch.no_grad()
    def check(self, done: int) -> dict[str, float]:
        """One row of the panel after `done` steps."""
        del done
        row: dict[str, float] = {}
        seen = self.task.look(self.shown, FIXED_STEP)
        for term in self.task.terms.values():
            if isinstance(term, ReconstructHidden):
                found = reconstruction_health(term, seen, self.task.encoder.config)
                row |= {
                    "reconstruction": found.error,
                    "patch_mean": found.patch_mean_error,
                    "interpolation": found.interpolation_error,
                }
        row["effective_rank"] = effective_rank(rearrange(seen.tokens, "b n c -> (b n) c").float())
        if self.probed is not None and self.probed.targets is not None:
            features = torch.cat(
                [self.task.encoder(self.task.encoder.patches_of(image[None])) for image in self.probed.images_hu]
            )
            target = self.probed.targets.amax(dim=1, keepdim=True)
            dice = probe_dice(features.float(), patchify(target, self.task.encoder.config.patch))
            # Left out where it means nothing: too few cases, or none with foreground.
            row |= {} if math.isnan(dice) else {"probe_dice": dice}
        return row

    @torch.no_grad()
    def pictures(self) -> bytes:
        """Original, visible and reconstructed crops of a few cases as safetensors, in network units."""
        seen = self.task.look(self.shown, FIXED_STEP)
        for term in self.task.terms.values():
            if isinstance(term, ReconstructHidden):
                made = reconstruction_pictures(term, seen, self.task.encoder.config)
                named = zip(("original", "visible", "reconstruction"), made, strict=True)
                return save({name: picture[:NUM_PICTURES].float().cpu().contiguous() for name, picture in named})
        return save({})
