"""Batches with augmentation, still a function of the step alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from apatite.data.augment import AugmentConfig, augment, augment_annotated, draw, sampling_maps
from apatite.data.batches import Batch
from apatite.data.places import CropPlaces


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
        places = None if batch.places is None else augment_places(batch.places, images.shape[2:], *keys)
        return replace(batch, images_hu=images, targets=targets, is_annotated=is_annotated, places=places)


def augment_places(
    places: CropPlaces, edges: Sequence[int], config: AugmentConfig, seed: int, step: int, sample_ids: Sequence[int]
) -> CropPlaces:
    """Where crops lie after the same draws: mirrored first, then moved, as the images are.

    Args:
        places: Before.
        edges: Of a crop, depth, height, width.
        config: How much.
        seed: Of the run.
        step: Of the run.
        sample_ids: One per sample.
    """
    draws = [draw(config, seed, step, sample) for sample in sample_ids]
    if config.flip_probability:
        places = places.mirrored(torch.tensor([item.is_mirrored for item in draws]))
    maps = sampling_maps(draws, edges, config)
    return places if maps is None else places.moved(maps)
