"""How well a segmenter does on the development split, on the network's own grid, while it trains.

This decides which weights are kept. The figures of an evaluation are counted on the original slices instead.
"""

from dataclasses import replace

import torch

from apatite.data.batches import Batch, Batches
from apatite.data.sources import open_source
from apatite.engine.precision import Precision
from apatite.io.hold_out import is_held_out
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
        rows = [
            row
            for row in prepared.case_index("development").tolist()
            if prepared.is_annotated[row].any() and not is_held_out(prepared.cases[row], config.hold_out)
        ]
        self.batches: list[Batch] = []
        if rows:
            source = open_source(prepared, rows, config.crop)
            draw = Batches(source, config.batch, config.seed, labelled=True)
            wanted = len(rows) if prepared.kind == "region" else CROPS_PER_VOLUME * len(rows)
            starts = range(0, wanted, config.batch)
            # The last batch would run on into a second pass and count some cases twice.
            self.batches = [_first(draw(step), wanted - start) for step, start in enumerate(starts)]

    @torch.no_grad()
    def check(self, done: int) -> dict[str, float]:
        """Soft Dice pooled over all development voxels, averaged over annotated labels, and the cross-entropy.

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
        is_known = total > 0
        dice = (shared[is_known] / total[is_known]).mean().item()
        return {"development_dice": dice, "development_entropy": torch.stack(entropy).mean().item(), "score": dice}


def _first(batch: Batch, count: int) -> Batch:
    """At most the first `count` samples of a labelled batch."""
    assert batch.targets is not None and batch.is_annotated is not None
    return replace(
        batch,
        case_ids=batch.case_ids[:count],
        images_hu=batch.images_hu[:count],
        targets=batch.targets[:count],
        is_annotated=batch.is_annotated[:count],
        places=None,  # nobody asks for them here
    )
