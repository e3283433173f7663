"""Augmentation on one core: a random affine, a mirror, a blur within slices and noise, at equal strength for all.

Every stage acts on every sample, so that no side wins by luck: rotations to 10° about each axis, scales to 10 %, shifts
to 2 voxels, trilinear, air outside; mirrored along width in half of the samples; blurred by up to 0.8 voxels; noise of
up to 15 HU. `+label` carries one label map along. Ours works on a batch of 8, the peers on one sample after the other,
as their interfaces want. Two things are not equal: batchgeneratorsv2 blurs along all three axes (it has no in-plane
blur), and ours carries labels as fractions, linearly, where the peers take the nearest. `as_recommended` is not equal
strength at all: each side with its own usual probabilities (ours: the fine-tuning recipe; batchgeneratorsv2: nnU-Net's
default). The limit: each voxel is read twice and written once.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apatite.core.rng import generator
from apatite.data.augment import AugmentConfig, augment
from harness import Benchmark, compare, median, ratio_of

BATCH = 8
ANGLE_DEG, SCALE, SHIFT, BLUR, NOISE = 10.0, 0.1, 2.0, 0.8, 15.0
BYTES_PER_VOXEL = 3 * 4
OURS = AugmentConfig(
    rotation_deg=ANGLE_DEG,
    scale=SCALE,
    shift_mm=SHIFT,
    thickness_probability=0,
    kernel_probability=1,
    blur_voxels=BLUR,
    noise_hu=NOISE,
    offset_hu=0,
)
Side = Callable[[], object]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """`batch 1 edge edge edge` of HU and, if labels are carried, of 0 or 1."""

    images: Tensor
    labels: Tensor | None


def main(arguments: list[str] | None = None) -> None:
    names = ("monai", "batchgeneratorsv2", "torchio", "numpy")
    bench = Benchmark.start(__doc__, __file__, packages=names, arguments=arguments)
    bench.options.threads = 1
    torch.set_num_threads(1)
    for edge in (48,) if bench.quick else (64, 96):
        report(bench, f"{edge}", edge, equal_sides(bench, make_samples(edge, with_labels=False)))
    edge = 48 if bench.quick else 64
    labelled = make_samples(edge, with_labels=True)
    report(bench, f"{edge}+label", edge, equal_sides(bench, labelled))
    report(bench, f"{edge}_as_recommended", edge, recommended_sides(bench, labelled))
    bench.finish()


def make_samples(edge: int, *, with_labels: bool) -> Samples:
    """Noisy spheres in air."""
    axis = np.linspace(-1, 1, edge)
    distance = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    noise = generator(0, "augment").normal(0, 12, (BATCH, 1, edge, edge, edge))
    images = torch.from_numpy((np.where(distance < 0.8, 40, -1000) + noise).astype(np.float32))
    labels = torch.from_numpy((distance < 0.2).astype(np.float32)).expand(BATCH, 1, -1, -1, -1).contiguous()
    return Samples(images=images, labels=labels if with_labels else None)


def report(bench: Benchmark, kind: str, edge: int, sides: dict[str, Side]) -> None:
    """Time all sides in turn; one row each."""
    seconds = compare(sides, repeats=3 if bench.quick else 9, warmups=2)
    for side, times in seconds.items():
        rate, ratio = BATCH / median(times), ratio_of(seconds, side)
        limit = bench.limits.stream / (BYTES_PER_VOXEL * edge**3)
        bench.row(crops=kind, side=side, crops_per_s=rate, time_over_ours=ratio, limit_fraction=rate / limit)
        if side != "ours":
            bench.ratio(f"{kind}_{side}", ratio)


def equal_sides(bench: Benchmark, samples: Samples) -> dict[str, Side]:
    """Ours and every peer that is installed."""
    sides: dict[str, Side] = {"ours": ours(samples, OURS)}
    for name, make in (("monai", monai_side), ("batchgeneratorsv2", batchgenerators_side), ("torchio", torchio_side)):
        try:
            sides[name] = make(samples)
        except ImportError:
            bench.skip(name, "not installed")
    return sides


def recommended_sides(bench: Benchmark, samples: Samples) -> dict[str, Side]:
    """Each as its makers use it."""
    sides: dict[str, Side] = {"ours": ours(samples, AugmentConfig())}
    try:
        sides["nnunet"] = nnunet_side(samples)
    except ImportError:
        bench.skip("nnunetv2", "not installed")
    return sides


def ours(samples: Samples, config: AugmentConfig) -> Side:
    """A new step each time, so the draws differ as the peers' do."""
    steps = iter(range(10**9))
    return lambda: augment(samples.images, samples.labels, config, 0, next(steps), range(BATCH))


def monai_side(samples: Samples) -> Side:
    """One `Compose` of dictionary transforms; the blur's first axis is all but left out."""
    from monai.transforms import Compose, RandAffined, RandFlipd, RandGaussianNoised, RandGaussianSmoothd

    keys = ["image"] if samples.labels is None else ["image", "label"]
    angle = float(np.deg2rad(ANGLE_DEG))
    transform = Compose(
        [
            RandFlipd(keys, prob=0.5, spatial_axis=2),
            RandAffined(
                keys,
                prob=1,
                rotate_range=(angle,) * 3,
                translate_range=(SHIFT,) * 3,
                scale_range=(SCALE,) * 3,
                mode=["bilinear", "nearest"][: len(keys)],
                padding_mode="zeros",
            ),
            RandGaussianSmoothd("image", prob=1, sigma_x=(1e-3, 1e-3), sigma_y=(0.1, BLUR), sigma_z=(0.1, BLUR)),
            RandGaussianNoised("image", prob=1, std=NOISE),
        ]
    )
    parts = [samples.images] if samples.labels is None else [samples.images, samples.labels]
    return lambda: [transform(dict(zip(keys, sample, strict=True))) for sample in zip(*parts, strict=True)]


def batchgenerators_side(samples: Samples) -> Side:
    """The transforms that nnU-Net is trained with; they change their input, so it is copied, as a crop would be."""
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    angle = float(np.deg2rad(ANGLE_DEG))
    spatial = SpatialTransform(
        tuple(samples.images.shape[2:]),
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=1,
        rotation=(-angle, angle),
        p_scaling=1,
        scaling=(1 - SCALE, 1 + SCALE),
        p_synchronize_scaling_across_axes=1,
    )
    blur = GaussianBlurTransform((0.1, BLUR), p_per_channel=1, benchmark=True)
    noise = GaussianNoiseTransform((0, NOISE), p_per_channel=1, synchronize_channels=True)
    return _each(ComposeTransforms([spatial, noise, blur, MirrorTransform((2,))]), samples)


def nnunet_side(samples: Samples) -> Side:
    """nnU-Net's default training transforms for this size."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    angle = float(np.deg2rad(30))
    edges = tuple(samples.images.shape[2:])
    return _each(nnUNetTrainer.get_training_transforms(edges, (-angle, angle), None, (0, 1, 2), False), samples)


def _each(transform: Callable[..., object], samples: Samples) -> Side:
    """One sample after the other, as a worker of nnU-Net does."""

    def work() -> None:
        for number, image in enumerate(samples.images):
            label = None if samples.labels is None else samples.labels[number].to(torch.int16)
            transform(**({"image": image.clone()} | ({} if label is None else {"segmentation": label})))

    return work


def torchio_side(samples: Samples) -> Side:
    """Subjects of tensors; its resampling is SimpleITK's, which is told to use one thread as well."""
    import SimpleITK as sitk  # noqa: N813 - its usual name
    import torchio

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    transform = torchio.Compose(
        [
            torchio.RandomFlip(axes=2, flip_probability=0.5),
            torchio.RandomAffine(
                scales=SCALE, degrees=ANGLE_DEG, translation=SHIFT, isotropic=True, default_pad_value=-1024
            ),
            torchio.RandomBlur(std=(0, 0, 0.1, BLUR, 0.1, BLUR)),
            torchio.RandomNoise(std=(0, NOISE)),
        ]
    )

    def work() -> None:
        for number, image in enumerate(samples.images):
            parts = {"image": torchio.ScalarImage(tensor=image)}
            if samples.labels is not None:
                parts["label"] = torchio.LabelMap(tensor=samples.labels[number])
            transform(torchio.Subject(parts))

    return work


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers' own
    main()
