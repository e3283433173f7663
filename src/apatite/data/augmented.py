"""Batches with augmentation, still a function of the step alone."""

from collections.abc import Callable
from dataclasses import replace

from apatite.data.augment import AugmentConfig, augment, augment_annotated
from apatite.data.batches import Batch


class Augmented:
    """Augment what another source of batches gives.

    Args:
        batches: The batch of a step.
        config: What is varied, and the spacing of the voxels.
        seed: Of the run.
    """

    def __init__(self, batches: Callable[[int], Batch], config: AugmentConfig, seed: int) -> None:
        self.batches, self.config, self.seed = batches, config, seed

    def __call__(self, step: int) -> Batch:
        """The augmented batch of that step."""
        batch = self.batches(step)
        keys = (self.config, self.seed, step, batch.sample_ids)
        images, targets = augment(batch.images_hu, batch.targets, *keys)
        # A mirrored left organ is a right one, also in what was looked for.
        is_annotated = None if batch.is_annotated is None else augment_annotated(batch.is_annotated, *keys)
        return replace(batch, images_hu=images, targets=targets, is_annotated=is_annotated)
