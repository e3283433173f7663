"""How well a segmenter does on the development split, on the network's own grid, while it trains.

This decides which weights are kept. The figures of an evaluation are counted on the original slices instead.
"""

import torch

from apatite.data.batches import Batch, Batches
from apatite.data.sources import open_source
from apatite.engine.precision import Precision
from apatite.io.store import Prepared
from apatite.losses.overlap import cross_entropy_loss
from apatite.segment.config import FinetuneConfig
from apatite.segment.model import Segmenter

CROPS_PER_VOLUME = 2


class Validation:
    """The same development crops at every check.

    Args:
        segmenter: What is trained.
        prepared: The prepared folder.
        config: The run.
        precision: How it computes.
    """

    def __init__(self, segmenter: Segmenter, prepared: Prepared, config: FinetuneConfig, precision: Precision) -> None:
        self.segmenter, self.precision = segmenter, precision
        rows = [row for row in prepared.case_index("development").tolist() if prepared.is_annotated[row].any()]
        self.batches: list[Batch] = []
        if rows:
            source = open_source(prepared, rows, config.crop)
            draw = Batches(source, range(len(rows)), config.batch, config.seed, labelled=True)
            passes = 1 if prepared.kind == "region" else CROPS_PER_VOLUME
            self.batches = [draw(step) for step in range(-(-passes * len(rows) // config.batch))]

    @torch.no_grad()
    def check(self, done: int) -> dict[str, float]:
        """Soft Dice pooled over all development voxels, averaged over labels, and the cross-entropy.

        Pooled sums are steadier than a mean over a few cases, some of which hold a handful of voxels.
        """
        del done
        if not self.batches:
            return {}
        sums: list[torch.Tensor] = []
        entropy = []
        for batch in self.batches:
            moved = batch.to(self.precision.device)
            with self.precision.autocast():
                logits = self.segmenter(moved.images_hu)
            assert moved.targets is not None and moved.is_annotated is not None
            counted = moved.is_annotated[..., None, None, None].float()
            probability, target = logits.float().sigmoid() * counted, moved.targets * counted
            terms = (2 * probability * target, probability + target)
            sums.append(torch.stack([term.sum(dim=(0, 2, 3, 4)) for term in terms]))
            entropy.append(cross_entropy_loss(logits, moved.targets, moved.is_annotated))
        shared, total = torch.stack(sums).sum(dim=0)
        dice = (shared / total.clamp(min=1e-6)).mean().item()
        return {"development_dice": dice, "development_entropy": torch.stack(entropy).mean().item(), "score": dice}
