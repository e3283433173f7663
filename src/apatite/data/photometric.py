"""Views of one crop with other values: scaled, shifted, blurred or sharpened, and noisy, each view by its own draws.

Off unless asked for, because HU keep their meaning: an encoder that is taught to ignore how dense a tissue is has
unlearned what calcium is told by. Geometry is left alone, so that voxels which two views share stay the same places.

Source: DINO (Caron et al. 2021, arXiv 2104.14294) and iBOT vary the colours of each view; SMIT's released code varies
nothing.
Differs: what varies is what varies between scanners (`data.augment`, one stage of it), and the scale of values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from apatite.core.errors import ConfigError
from apatite.core.rng import derived_seed, generator
from apatite.core.scan import PADDING_HU
from apatite.core.types import Image
from apatite.data.augment import IDENTITY, AugmentConfig, augment


@dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """How far the values of a view may be changed; every strength of 0 leaves its stage out.

    Attributes:
        scale: Largest relative change of HU, with water (0 HU) as the value that stays.
        offset_hu: Largest shift.
        noise_hu: Largest standard deviation of added noise.
        kernel_probability: Of another reconstruction kernel: half of them softer, half sharper.
        blur_voxels: Largest standard deviation of the softer kernel, in plane.
        sharpen: Largest share of the detail that the sharper kernel adds once more.
    """

    scale: float = 0.0
    offset_hu: float = 0.0
    noise_hu: float = 0.0
    kernel_probability: float = 0.0
    blur_voxels: float = 0.8
    sharpen: float = 0.8

    def __post_init__(self) -> None:
        strengths = (self.offset_hu, self.noise_hu, self.blur_voxels, self.sharpen)
        is_possible = 0 <= self.scale < 1 and 0 <= self.kernel_probability <= 1
        if not is_possible or not all(0 <= strength < float("inf") for strength in strengths):
            raise ConfigError(
                f"values cannot be changed by {self}",
                where="photometric",
                fix="use a scale below 1, a probability of at most 1, and nothing below 0",
            )

    @property
    def is_on(self) -> bool:
        """Whether anything is ever changed."""
        return any((self.scale, self.offset_hu, self.noise_hu, self.kernel_probability))

    @property
    def scanner(self) -> AugmentConfig:
        """All but the scale, as `data.augment` knows it."""
        return replace(
            IDENTITY,
            kernel_probability=self.kernel_probability,
            blur_voxels=self.blur_voxels,
            sharpen=self.sharpen,
            noise_hu=self.noise_hu,
            offset_hu=self.offset_hu,
        )


@torch.no_grad()
def vary(
    images_hu: Image, config: PhotometricConfig, seed: int, step: int, sample_ids: Sequence[int], view: int
) -> Image:
    """Change the values of one view of each sample at random.

    Args:
        images_hu: The same view of all samples of a batch, HU.
        config: How much.
        seed: Of the run.
        step: Of the run.
        sample_ids: Each sample's place in the step's batch.
        view: Which of a sample's views these are.

    Returns:
        HU of the same shape; the air around the field of view (-1024 HU) stays at its value.
    """
    own = derived_seed(seed, "photometric", view)
    if config.scale:
        images_hu = _scale(images_hu, config.scale, own, step, sample_ids)
    return augment(images_hu, None, config.scanner, own, step, sample_ids)[0]


def _scale(images_hu: Image, strength: float, seed: int, step: int, sample_ids: Sequence[int]) -> Image:
    factors = [1 + strength * generator(seed, "scale", step, sample).uniform(-1, 1) for sample in sample_ids]
    scaled = images_hu * images_hu.new_tensor(factors)[:, None, None, None, None]
    return torch.where(images_hu <= PADDING_HU, images_hu, scaled.clamp(min=PADDING_HU))
