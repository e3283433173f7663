"""One epoch of pre-training over 4,933 regions of 64³ voxels, with augmentation: three ways to feed the same step.

The step is ours in all of them: ViTiac-S, patches of 4, 64 samples, bf16. `ours` holds the regions on the device and
augments whole batches there. `workers` is the common way: up to 16 processes augment sample by sample with
batchgeneratorsv2 and send batches over. `monai` is its fast-training recipe: cached regions on the device, its random
transforms there too, `ThreadDataLoader`. All rotate to 10°, scale by 10 %, mirror half of the samples, and add noise.
`nothing` feeds one batch again and again, which no pipeline can beat. Steps are timed until each side's share of the
minutes is over, or for two epochs, counted in whole steps. Without a GPU: 16 regions of 32³, batches of 4.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from device import Device, start
from steps import Problem, fastest_precision, our_task
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apatite.data.augment import AugmentConfig
from apatite.data.augmented import Augmented
from apatite.data.batches import Batch, Batches, RegionSource
from harness import Benchmark

ANGLE_DEG, SCALE, NOISE_HU = 10.0, 0.1, 15.0
OURS = AugmentConfig(
    rotation_deg=ANGLE_DEG,
    scale=SCALE,
    shift_mm=0,
    thickness_probability=0,
    kernel_probability=0,
    noise_hu=NOISE_HU,
    offset_hu=0,
)
WORKERS = 16
WARMUPS = 3
Feed = Callable[[], Iterator[Tensor]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """int16 HU `cases depth height width` on the host, and what is trained on it."""

    regions: np.ndarray
    problem: Problem

    @property
    def steps(self) -> int:
        """Whole batches of an epoch."""
        return len(self.regions) // self.problem.batch


def main(arguments: list[str] | None = None) -> None:
    bench, device = start(__doc__, __file__, ("monai", "batchgeneratorsv2"), arguments)
    corpus = make_corpus(device)
    step = training_step(corpus.problem)
    found: dict[str, tuple[float, int]] = {}
    feeds = {"nothing": feed_nothing, "ours": feed_ours, "workers": feed_workers, "monai": feed_monai}
    share_s = 60 * bench.options.minutes / (len(feeds) + 1)
    for name, make in feeds.items():
        if not device.has_time:
            bench.skip(name, "no time left")
            continue
        try:
            feed = make(corpus)
        except ImportError as error:
            bench.skip(name, str(error))
            continue
        found[name] = epoch_seconds(feed, step, corpus, device, share_s)
    report(bench, corpus, found)
    bench.facts |= {"regions": len(corpus.regions), "workers": num_workers(), "cores": os.cpu_count()}
    bench.finish()


def report(bench: Benchmark, corpus: Corpus, found: dict[str, tuple[float, int]]) -> None:
    """One row per feed."""
    own_s, best_s = (found[name][0] if name in found else None for name in ("ours", "nothing"))
    for name, (epoch_s, timed_steps) in found.items():
        bench.row(
            feed=name,
            epoch_s=epoch_s,
            samples_per_s=corpus.steps * corpus.problem.batch / epoch_s,
            timed_steps=timed_steps,
            time_over_ours=own_s and epoch_s / own_s,
            limit_fraction=best_s and best_s / epoch_s,
        )
        if own_s and name not in ("ours", "nothing"):
            bench.ratio(name, epoch_s / own_s)


def make_corpus(device: Device) -> Corpus:
    """Noise: neither a step nor a transform takes longer for what it sees."""
    cases, edge, batch = (16, 32, 4) if device.is_toy else (4933, 64, 64)
    problem = Problem(model="vitiac-s", crop=(edge,) * 3, patch=4, batch=batch, device=device.name)
    regions = np.random.default_rng(0).integers(-1000, 1000, (cases, edge, edge, edge), dtype=np.int16)
    return Corpus(regions=regions, problem=problem)


def training_step(problem: Problem) -> Callable[[Tensor, int], None]:
    """Forward, backward, AdamW on a batch of images."""
    precision = fastest_precision(problem)
    task = our_task(problem, precision)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)

    def step(images_hu: Tensor, number: int) -> None:
        batch = Batch(case_ids=("noise",) * len(images_hu), images_hu=images_hu)
        with precision.autocast():
            losses = task.losses(batch, number)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def epoch_seconds(
    feed: Feed, step: Callable[[Tensor, int], None], corpus: Corpus, device: Device, share_s: float
) -> tuple[float, int]:
    """Seconds of an epoch's steps, from as many as fit into the share of time; the first few are not counted."""
    # Two epochs, so that what workers had made before the clock began does not count for much.
    wanted = 2 if device.is_toy else 2 * corpus.steps
    device.wait()
    began = start_s = time.perf_counter()
    done = 0
    for number, images in enumerate(feed()):
        step(images, number)
        if number + 1 == WARMUPS:
            device.wait()
            start_s = time.perf_counter()
        done = number + 1 - WARMUPS
        if done >= wanted or (done >= 2 and time.perf_counter() - began > share_s):
            break
    device.wait()
    return (time.perf_counter() - start_s) / done * corpus.steps, done


def feed_nothing(corpus: Corpus) -> Feed:
    """One batch that is already there."""
    images = corpus.problem.images()

    def feed() -> Iterator[Tensor]:
        while True:
            yield images

    return feed


def feed_ours(corpus: Corpus) -> Feed:
    """Regions on the device; every batch is cut and augmented there."""
    ids = [f"c{number}" for number in range(len(corpus.regions))]
    source = RegionSource(corpus.regions, None, ids, np.ones((len(ids), 1), bool), corpus.problem.device)
    batches = Augmented(Batches(source, corpus.problem.batch, 0, labelled=False), OURS, 0)

    def feed() -> Iterator[Tensor]:
        for number in range(10**9):
            yield batches(number).images_hu

    return feed


def num_workers() -> int:
    """No more than there are cores."""
    return min(WORKERS, os.cpu_count() or 1)


class Augmenting(Dataset):
    """One region after the other, augmented by batchgeneratorsv2 in a worker."""

    def __init__(self, regions: np.ndarray, transform: Callable[..., dict[str, Tensor]]) -> None:
        self.regions, self.transform = regions, transform

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, number: int) -> Tensor:
        return self.transform(image=torch.from_numpy(self.regions[number].astype(np.float32))[None])["image"]


def feed_workers(corpus: Corpus) -> Feed:
    """torch's loader with processes, pinned memory and prefetching."""
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    angle = float(np.deg2rad(ANGLE_DEG))
    spatial = SpatialTransform(
        corpus.problem.crop,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=1,
        rotation=(-angle, angle),
        p_scaling=1,
        scaling=(1 - SCALE, 1 + SCALE),
        p_synchronize_scaling_across_axes=1,
    )
    noise = GaussianNoiseTransform((0, NOISE_HU), p_per_channel=1, synchronize_channels=True)
    data = Augmenting(corpus.regions, ComposeTransforms([spatial, noise, MirrorTransform((2,))]))
    is_gpu = corpus.problem.device == "cuda"
    loader = DataLoader(
        data,
        corpus.problem.batch,
        shuffle=True,
        num_workers=num_workers(),
        pin_memory=is_gpu,
        drop_last=True,
        persistent_workers=True,
    )
    return lambda: repeated(loader, lambda images: images.to(corpus.problem.device, non_blocking=True))


def feed_monai(corpus: Corpus) -> Feed:
    """Cached on the device, transformed there, collated by a thread."""
    from monai.data import CacheDataset, ThreadDataLoader
    from monai.transforms import Compose, EnsureChannelFirst, EnsureType, RandAffine, RandFlip, RandGaussianNoise

    device = torch.device(corpus.problem.device)
    angle = float(np.deg2rad(ANGLE_DEG))
    transform = Compose(
        [
            EnsureChannelFirst(channel_dim="no_channel"),
            EnsureType(dtype=torch.float32, device=device, track_meta=False),
            RandFlip(prob=0.5, spatial_axis=2),
            RandAffine(
                prob=1, rotate_range=(angle,) * 3, scale_range=(SCALE,) * 3, padding_mode="zeros", device=device
            ),
            RandGaussianNoise(prob=1, std=NOISE_HU),
        ]
    )
    # Everything before the first random transform is done once and cached.
    data = CacheDataset(corpus.regions, transform, num_workers=1, progress=False, copy_cache=False)
    loader = ThreadDataLoader(data, batch_size=corpus.problem.batch, shuffle=True, num_workers=0, drop_last=True)
    return lambda: repeated(loader, lambda images: images.as_subclass(Tensor))


def repeated(loader: DataLoader, move: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Epoch after epoch."""
    while True:
        for images in loader:
            yield move(images)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers' own
    main()
