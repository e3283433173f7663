"""What might have been scanned instead: a batch moved, mirrored, blurred and made noisy, as a function of its keys.

Draws depend on (seed, step, sample) alone; every stage is applied at once to those samples of the batch that drew it:
one mirror, one affine resampling, one product with a matrix along each axis, one addition. Rotation and scale act in
millimetres, so they stay rigid on voxels that are not cubes. Targets follow the geometry; they do not follow the
scanner (thickness, kernel, noise), because the calcium is where it was.

Source: the augmentation of Jin et al. 2025 is not known. What varies here is what varies between clinical scanners
(position, thickness, kernel, noise, calibration); the ranges are a choice.
Differs: from nnU-Net's, no random contrast or gamma, because HU are absolute.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.core.rng import derived_seed, generator
from apatite.core.scan import PADDING_HU
from apatite.core.types import Image
from apatite.data.resample import Maps, resample

Targets = Float[Tensor, "batch labels depth height width"]
"""Which fraction of each voxel carries each label."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far a sample may be moved and changed; every strength of 0 leaves its stage out.

    Attributes:
        spacing_mm: Of the voxels, along i (width), j (height), k (depth).
        flip_probability: Of mirroring left and right, that is along width. The grid must follow the patient's axes.
        mirror_pairs: Label values that change places when mirrored, such as a left and a right organ.
        rotation_deg: Largest angle about each axis.
        scale: Largest relative change of size.
        shift_mm: Largest shift along each axis.
        thickness_probability: Of simulating thick slices.
        thickness_voxels: Fewest and most slices that are averaged into one.
        kernel_probability: Of another reconstruction kernel: half of them softer, half sharper.
        blur_voxels: Largest standard deviation of the softer kernel, in plane.
        sharpen: Largest share of the detail that the sharper kernel adds once more.
        noise_hu: Largest standard deviation of added noise.
        offset_hu: Largest error of calibration.
    """

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    flip_probability: float = 0.5
    mirror_pairs: tuple[tuple[int, int], ...] = ()
    rotation_deg: float = 10.0
    scale: float = 0.1
    shift_mm: float = 2.0
    thickness_probability: float = 0.2
    thickness_voxels: tuple[int, int] = (2, 5)
    kernel_probability: float = 0.3
    blur_voxels: float = 0.8
    sharpen: float = 0.8
    noise_hu: float = 15.0
    offset_hu: float = 15.0

    def __post_init__(self) -> None:
        chances = (self.flip_probability, self.thickness_probability, self.kernel_probability)
        strengths = (self.rotation_deg, self.shift_mm, self.blur_voxels, self.sharpen, self.noise_hu, self.offset_hu)
        if not all(0 <= chance <= 1 for chance in chances):
            raise ConfigError(f"probabilities {chances} must lie between 0 and 1", where="augment")
        if min(strengths) < 0 or not 0 <= self.scale < 1 or min(self.spacing_mm) <= 0:
            raise ConfigError("strengths must not be negative, scale below 1, spacing above 0", where="augment")
        if not 1 <= self.thickness_voxels[0] <= self.thickness_voxels[1]:
            raise ConfigError(f"thickness from {self.thickness_voxels} slices is impossible", where="augment")
        paired = [label for pair in self.mirror_pairs for label in pair]
        if len(set(paired)) != len(paired) or min(paired, default=1) < 1:
            raise ConfigError(f"mirror pairs {self.mirror_pairs} name a label twice, or background", where="augment")


IDENTITY = AugmentConfig(
    flip_probability=0,
    rotation_deg=0,
    scale=0,
    shift_mm=0,
    thickness_probability=0,
    kernel_probability=0,
    noise_hu=0,
    offset_hu=0,
)
"""Changes nothing, bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What was drawn for one sample; all is drawn whether its stage is on or not, so stages do not interact."""

    is_mirrored: bool
    angles_rad: tuple[float, float, float]
    scale: float
    shift_mm: tuple[float, float, float]
    thickness: int
    phase: int
    blur_voxels: float
    detail: float
    noise_hu: float
    offset_hu: float


@torch.no_grad()
def augment(
    images: Image, targets: Targets | None, config: AugmentConfig, seed: int, step: int, sample_ids: Sequence[int]
) -> tuple[Image, Targets | None]:
    """Change a batch at random.

    Args:
        images: HU.
        targets: `batch labels depth height width`, fractions; label value 1 is channel 0. Or none.
        config: How much.
        seed: Of the run.
        step: Of the run.
        sample_ids: One per sample, for example its place in the batch.

    Returns:
        Images and targets of the same shapes; outside the old image there is air (-1024 HU) and no label.
    """
    draws = [draw(config, seed, step, sample) for sample in sample_ids]
    if len(draws) != len(images):
        raise ConfigError(f"{len(draws)} sample ids for {len(images)} images", where="augment")
    if config.flip_probability:
        images, targets = _mirror(images, targets, config, draws)
    maps = sampling_maps(draws, images.shape[2:], config)
    if maps is not None:
        images, targets = _move(images, targets, maps)
    if config.thickness_probability:
        images = _thicken(images, draws)
    if config.kernel_probability:
        images = _other_kernel(images, draws)
    if config.noise_hu or config.offset_hu:
        images = _disturb(images, draws, seed, step, sample_ids)
    return images, targets


def augment_annotated(
    is_annotated: Bool[Tensor, "batch labels"], config: AugmentConfig, seed: int, step: int, sample_ids: Sequence[int]
) -> Bool[Tensor, "batch labels"]:
    """Which labels were looked for, after the same draws: a mirrored case swaps this for paired labels as well."""
    is_mirrored = [draw(config, seed, step, sample).is_mirrored for sample in sample_ids]
    swapped = is_annotated[:, _mirrored_order(is_annotated.shape[1], config)]
    return torch.where(torch.tensor(is_mirrored, device=is_annotated.device)[:, None], swapped, is_annotated)


@lru_cache(maxsize=4096)  # image, annotation and places of a sample each ask for it
def draw(config: AugmentConfig, seed: int, step: int, sample: int) -> Draw:
    """What happens to one sample of one step."""
    source = generator(seed, "augment", step, sample)
    uniform = source.uniform(-1.0, 1.0, size=9)
    chance = source.random(size=4)
    thickness = int(source.integers(config.thickness_voxels[0], config.thickness_voxels[1] + 1))
    phase = int(source.integers(thickness))
    amount, noise = source.random(size=2)
    is_thick, is_changed = chance[1] < config.thickness_probability, chance[2] < config.kernel_probability
    is_soft = chance[3] < 0.5
    angles = np.deg2rad(config.rotation_deg) * uniform[:3]
    return Draw(
        is_mirrored=bool(chance[0] < config.flip_probability),
        angles_rad=(float(angles[0]), float(angles[1]), float(angles[2])),
        scale=1.0 + config.scale * float(uniform[3]),
        shift_mm=(config.shift_mm * uniform[4], config.shift_mm * uniform[5], config.shift_mm * uniform[6]),
        thickness=thickness if is_thick else 1,
        phase=phase if is_thick else 0,
        blur_voxels=config.blur_voxels * (amount if is_changed and is_soft else 1.0),
        detail=0.0 if not is_changed else -1.0 if is_soft else config.sharpen * amount,
        noise_hu=config.noise_hu * noise,
        offset_hu=config.offset_hu * float(uniform[7]),
    )


def sampling_maps(draws: Sequence[Draw], edges: Sequence[int], config: AugmentConfig) -> Maps | None:
    """How samples of these edges (depth, height, width) are moved; `None` where none ever is."""
    if not (config.rotation_deg or config.scale or config.shift_mm):
        return None
    extent_mm = np.array(edges[::-1]) * np.array(config.spacing_mm) / 2
    return np.stack([_sampling_map(item, extent_mm) for item in draws])


def thick_slices(depth: int, thickness: int, phase: int) -> Float[np.ndarray, "depth depth"]:
    """Matrix along depth: means of `thickness` slices each, read again at the thin slices by linear interpolation.

    Args:
        depth: Number of thin slices.
        thickness: How many make one thick slice; 1 is the identity.
        phase: How many thin slices the first thick one lacks.
    """
    group = (np.arange(depth) + phase) // thickness
    average = (group[None, :] == np.arange(group[-1] + 1)[:, None]).astype(np.float32)
    average /= average.sum(axis=1, keepdims=True)
    centres = average @ np.arange(depth)
    read = np.stack([np.interp(np.arange(depth), centres, row) for row in np.eye(len(centres))], axis=1)
    return (read @ average).astype(np.float32)


def gaussian_matrix(edge: int, sigmas: Sequence[float]) -> Float[np.ndarray, "batch edge edge"]:
    """Matrix along one axis for each sample: a Gaussian mean, normalised at the borders; no blur where sigma is 0."""
    distance = np.subtract.outer(np.arange(edge), np.arange(edge))
    width = np.maximum(np.asarray(sigmas, dtype=np.float64), 1e-3)[:, None, None]
    weights = np.exp(-0.5 * (distance / width) ** 2)
    return (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


def _mirror(
    images: Image, targets: Targets | None, config: AugmentConfig, draws: Sequence[Draw]
) -> tuple[Image, Targets | None]:
    """Mirror along width, and let paired labels change places."""
    is_mirrored = torch.tensor([item.is_mirrored for item in draws], device=images.device)[:, None, None, None, None]
    images = torch.where(is_mirrored, images.flip(-1), images)
    if targets is None:
        return images, None
    order = _mirrored_order(targets.shape[1], config)
    return images, torch.where(is_mirrored, targets[:, order].flip(-1), targets)


def _mirrored_order(num_labels: int, config: AugmentConfig) -> list[int]:
    """Which channel a mirrored sample shows in each channel."""
    order = list(range(num_labels))
    for one, other in config.mirror_pairs:
        if max(one, other) > num_labels:
            raise ConfigError(f"mirror pair {one}, {other}, but there are {num_labels} labels", where="augment")
        order[one - 1], order[other - 1] = other - 1, one - 1
    return order


def _move(images: Image, targets: Targets | None, maps: Maps) -> tuple[Image, Targets | None]:
    """Rotate, scale and shift all samples by one resampling; air is 0 meanwhile, the value of what lies outside."""
    moved = resample(images, maps, PADDING_HU)
    return moved, None if targets is None else resample(targets, maps, 0.0)


def _sampling_map(item: Draw, extent_mm: np.ndarray) -> Float[np.ndarray, "3 4"]:
    matrix = np.diag(1 / extent_mm) @ (_rotation(item.angles_rad) / item.scale) @ np.diag(extent_mm)
    return np.concatenate([matrix, (np.array(item.shift_mm) / extent_mm)[:, None]], axis=1)


def _rotation(angles_rad: tuple[float, float, float]) -> Float[np.ndarray, "3 3"]:
    """Rotation about i, then j, then k."""
    result = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[[one, other], [one, other]] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        result = step @ result
    return result


def _thicken(images: Image, draws: Sequence[Draw]) -> Image:
    """Average thin slices of those samples that drew it."""
    chosen = [number for number, item in enumerate(draws) if item.thickness > 1]
    if not chosen:
        return images
    matrix = np.stack([thick_slices(images.shape[2], draws[n].thickness, draws[n].phase) for n in chosen])
    images = images.clone()
    images[chosen] = torch.einsum("bed,bcdhw->bcehw", torch.from_numpy(matrix).to(images), images[chosen])
    return images


def _other_kernel(images: Image, draws: Sequence[Draw]) -> Image:
    """Add or take away in-plane detail: `x + detail * (x - blurred x)`; -1 leaves only the blurred image."""
    chosen = [number for number, item in enumerate(draws) if item.detail]
    if not chosen:
        return images
    sigmas = [draws[number].blur_voxels for number in chosen]
    along_height, along_width = (
        torch.from_numpy(gaussian_matrix(edge, sigmas)).to(images)[:, None, None] for edge in images.shape[3:]
    )
    images = images.clone()
    sharp = images[chosen]
    blurred = along_height @ sharp @ along_width.mT
    images[chosen] = sharp.lerp(blurred, -_column([draws[number].detail for number in chosen], images))
    return images


def _disturb(images: Image, draws: Sequence[Draw], seed: int, step: int, sample_ids: Sequence[int]) -> Image:
    """Noise and offset; the air around the field of view stays at its value, as no scanner goes below it.

    Noise is drawn where the images are: a GPU would wait for the host's. Another kind of device has other noise.
    """
    disturbed = torch.empty_like(images)
    for image, result, item, sample in zip(images, disturbed, draws, sample_ids, strict=True):
        source = torch.Generator(images.device).manual_seed(derived_seed(seed, "noise", step, sample) % 2**63)
        torch.randn(image.shape, generator=source, out=result)
        result.mul_(item.noise_hu).add_(image).add_(item.offset_hu).clamp_(min=PADDING_HU)
        torch.where(image <= PADDING_HU, image, result, out=result)
    return disturbed


def _column(values: Sequence[float], like: Image) -> Tensor:
    """One number per sample, ready to be multiplied with a batch of images."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None, None, None]
