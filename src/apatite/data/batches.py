"""The batch of a step: which cases, which crops, in which order, as a function of (seed, step).

Every epoch is a new permutation of the cases; sample number `step * batch + b` of a run is always the same case, so a
run may stop and go on anywhere, and several processes may each make their share of a batch. Two sources: regions of
one size and crops of whole volumes, both held in memory, the host's or the device's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apatite.core.errors import ApatiteError, ConfigError, DataError
from apatite.core.rng import generator
from apatite.core.share import WHOLE, Share
from apatite.core.types import Edges
from apatite.data.places import CropPlaces, Spacing, VolumeSizes


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some crops and what is known of them.

    Attributes:
        case_ids: One per sample.
        images_hu: `batch 1 depth height width`.
        targets: `batch labels depth height width`, the fraction of each voxel that carries the label; `None` without
            labels.
        is_annotated: `batch labels`, True where the label was looked for.
        first_sample: Place of the first sample in the step's batch, where several processes share it: draws go by it.
        places: Where each crop lies in its volume; `None` where the source does not know how large its voxels are.
    """

    case_ids: tuple[str, ...]
    images_hu: Float[Tensor, "batch 1 depth height width"]
    targets: Float[Tensor, "batch labels depth height width"] | None = None
    is_annotated: Bool[Tensor, "batch labels"] | None = None
    first_sample: int = 0
    places: CropPlaces | None = None

    @property
    def sample_ids(self) -> range:
        """Each sample's place in the step's batch, over all processes."""
        return range(self.first_sample, self.first_sample + len(self.case_ids))

    def to(self, device: str) -> "Batch":
        """The same batch on a device."""
        if device == self.images_hu.device.type:
            return self
        moved = {name: getattr(self, name) for name in ("images_hu", "targets", "is_annotated", "places")}
        return replace(self, **{name: value if value is None else value.to(device) for name, value in moved.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """One crop.

    Attributes:
        image_hu: Float32.
        target: `labels depth height width`, float32; `None` where it was not asked for.
        start: Its first voxel in the volume, along depth, height, width.
    """

    image_hu: Float[Tensor, "depth height width"]
    target: Float[Tensor, "labels depth height width"] | None
    start: Edges


@runtime_checkable
class LabelledCrop(Protocol):
    """Where crops come from; `sizes` are those of the volumes they are cut from, where known."""

    case_ids: Sequence[str]
    is_annotated: np.ndarray
    sizes: VolumeSizes | None

    def crop(self, case: int, draw: np.random.Generator, *, labelled: bool) -> Cut:
        """A crop of a case, with its target if asked for."""
        ...


class RegionSource:
    """Regions of one size, whole.

    Args:
        images: int16 HU `cases depth height width`.
        fractions: uint8 `cases labels depth height width`, 255 meaning all of the voxel; `None` without labels.
        case_ids: Names, in the arrays' order.
        is_annotated: `cases labels`.
        device: Where they are held, and crops are made.
        spacings_mm: Of each case's voxels along i, j, k; without it nothing is said about where crops lie.
    """

    shows_whole_volumes = True
    """Every crop is all of its volume: where it lies is the same for all, and nothing can be learned from it."""

    def __init__(
        self,
        images: np.ndarray,
        fractions: np.ndarray | None,
        case_ids: Sequence[str],
        is_annotated: np.ndarray,
        device: str = "cpu",
        *,
        spacings_mm: Sequence[Spacing] | None = None,
    ) -> None:
        self.images = _held(images, device)
        shapes = [images.shape[1:]] * len(images)
        self.sizes = None if spacings_mm is None else VolumeSizes.of(shapes, spacings_mm)
        self.fractions = None if fractions is None else _held(fractions, device)
        self.case_ids, self.is_annotated = case_ids, is_annotated

    def crop(self, case: int, draw: np.random.Generator, *, labelled: bool) -> Cut:
        """The whole region; nothing is drawn."""
        del draw
        image = self.images[case].float()
        return Cut(image_hu=image, target=self._target(case, image) if labelled else None, start=(0, 0, 0))

    def _target(self, case: int, image: Tensor) -> Tensor:
        if self.fractions is None:
            return image.new_zeros(self.is_annotated.shape[1], *image.shape)
        return self.fractions[case].float() / 255


class VolumeSource:
    """Random crops of whole volumes.

    Args:
        images: int16 HU volumes, each at least as large as the crop.
        labels: uint8 index maps of the same shapes; `None` where a case has no labels.
        case_ids: Names.
        is_annotated: `cases labels`.
        crop_edges: Depth, height, width of a crop.
        device: Where they are held, and crops are made.
        spacings_mm: Of each case's voxels along i, j, k; without it nothing is said about where crops lie.
    """

    foreground_share = 0.7
    """Share of labelled crops that contain a randomly chosen labelled voxel, at a random place."""

    def __init__(  # noqa: PLR0913 - what may be left out is keyword-only
        self,
        images: Sequence[np.ndarray],
        labels: Sequence[np.ndarray | None],
        case_ids: Sequence[str],
        is_annotated: np.ndarray,
        crop_edges: Edges,
        device: str = "cpu",
        *,
        spacings_mm: Sequence[Spacing] | None = None,
    ) -> None:
        for case_id, image in zip(case_ids, images, strict=True):
            if any(have < want for have, want in zip(image.shape, crop_edges, strict=True)):
                raise DataError(
                    f"the volume {image.shape} is smaller than the {tuple(crop_edges)} that are cut from it",
                    where=case_id,
                    fix=f"prepare with least_shape={list(crop_edges)}, or give a smaller crop, or parent of views",
                )
        self.images = [_held(image, device) for image in images]
        self.labels = [None if label is None else _held(label, device) for label in labels]
        # Where each label is, found once: a search through the volume would cost more than the crop.
        values = range(1, is_annotated.shape[1] + 1)
        self._places = [{} if label is None else {v: _places(label, v) for v in values} for label in labels]
        self.case_ids, self.is_annotated, self.crop_edges = case_ids, is_annotated, crop_edges
        self.sizes = None if spacings_mm is None else VolumeSizes.of([image.shape for image in images], spacings_mm)

    @property
    def shows_whole_volumes(self) -> bool:
        """Whether every crop is all of its volume: where it lies is then the same for all."""
        return all(tuple(image.shape) == tuple(self.crop_edges) for image in self.images)

    def crop(self, case: int, draw: np.random.Generator, *, labelled: bool) -> Cut:
        """A random crop; if labelled, most often one with a label in it."""
        label = self.labels[case] if labelled else None
        image = self.images[case]
        start = self._random_start(image.shape, draw)
        if label is not None and draw.random() < self.foreground_share:
            start = self._start_around_label(case, draw)
        place = tuple(slice(s, s + edge) for s, edge in zip(start, self.crop_edges, strict=True))
        cut = image[place].float()
        target = self._target(label, place, cut) if labelled else None
        return Cut(image_hu=cut, target=target, start=(start[0], start[1], start[2]))

    def _target(self, label: Tensor | None, place: tuple[slice, ...], cut: Tensor) -> Tensor:
        """One plane per label; all empty where a case has no label map (and nothing annotated)."""
        num_labels = self.is_annotated.shape[1]
        if label is None:
            return cut.new_zeros(num_labels, *self.crop_edges)
        planes = cut.new_empty(num_labels, *self.crop_edges)
        for value, plane in enumerate(planes, start=1):
            # Written as numbers at once; comparing first and converting then takes several times as long.
            torch.eq(label[place], value, out=plane)
        return planes

    def _random_start(self, shape: Sequence[int], draw: np.random.Generator) -> list[int]:
        return [int(draw.integers(0, have - want + 1)) for have, want in zip(shape, self.crop_edges, strict=True)]

    def _start_around_label(self, case: int, draw: np.random.Generator) -> list[int]:
        """A crop that contains a random voxel of a random annotated label, wherever in the crop it may lie."""
        shape = tuple(self.images[case].shape)
        for value in draw.permutation(np.flatnonzero(self.is_annotated[case])) + 1:
            places = self._places[case][int(value)]
            if len(places):
                voxel = np.unravel_index(places[draw.integers(len(places))], shape)
                low = [max(0, int(v) - edge + 1) for v, edge in zip(voxel, self.crop_edges, strict=True)]
                high = [min(int(v), have - edge) for v, edge, have in zip(voxel, self.crop_edges, shape, strict=True)]
                return [int(draw.integers(lo, hi + 1)) for lo, hi in zip(low, high, strict=True)]
        return self._random_start(shape, draw)


class Batches:
    """The batch of a step, or this process's share of it.

    Args:
        source: Where crops come from; all of its cases take part.
        batch: Samples per step, over all processes.
        seed: Of order and crops.
        labelled: Whether targets are wanted.
        share: Which part of each batch to make.
    """

    def __init__(self, source: LabelledCrop, batch: int, seed: int, *, labelled: bool, share: Share = WHOLE) -> None:
        if not len(source.case_ids):
            raise DataError(
                "there is no case to learn from", fix="check the split column of the manifest", code="EMPTY_SPLIT"
            )
        if batch < 1:
            raise ConfigError(f"a batch of {batch} samples", fix="use at least 1")
        self.source, self.batch, self.seed, self.labelled = source, batch, seed, labelled
        self.samples = share.samples(batch)
        self._known_order = -1, np.empty(0, np.int64)  # of the epoch that was asked for last

    def __call__(self, step: int) -> Batch:
        """The batch of that step.

        Raises:
            DataError: no crop could be made of a case; the message names it.
        """
        chosen = [self._case(step * self.batch + sample) for sample in self.samples]
        crops = [self._crop(step, sample, case) for sample, case in zip(self.samples, chosen, strict=True)]
        images = torch.stack([cut.image_hu for cut in crops])[:, None]
        targets = [cut.target for cut in crops if cut.target is not None]
        # One target per sample, or a label would be learned with the wrong image.
        assert len(targets) == (len(crops) if self.labelled else 0)
        return Batch(
            case_ids=tuple(self.source.case_ids[case] for case in chosen),
            images_hu=images,
            targets=torch.stack(targets) if self.labelled else None,
            is_annotated=torch.from_numpy(self.source.is_annotated[chosen]).to(images.device)
            if self.labelled
            else None,
            first_sample=self.samples.start,
            places=self._crop_places(chosen, crops),
        )

    def _crop_places(self, chosen: list[int], crops: list[Cut]) -> CropPlaces | None:
        if self.source.sizes is None:
            return None
        image = crops[0].image_hu
        edges = image.shape[0], image.shape[1], image.shape[2]
        return self.source.sizes.places(chosen, [cut.start for cut in crops], edges).to(image.device)

    def _crop(self, step: int, sample: int, case: int) -> Cut:
        try:
            return self.source.crop(case, generator(self.seed, "crop", step, sample), labelled=self.labelled)
        except ApatiteError:
            raise
        except Exception as error:
            # Whatever it is, without the case's name nobody could look for it.
            raise DataError(
                f"no crop could be made ({type(error).__name__}: {error})",
                where=self.source.case_ids[case],
                fix="look at this case; if it is sound, report a bug with what --debug shows",
            ) from error

    def _case(self, number: int) -> int:
        """The case of the run's n-th sample: each epoch is its own permutation."""
        epoch, place = divmod(number, len(self.source.case_ids))
        return int(self._order(epoch)[place])

    def _order(self, epoch: int) -> np.ndarray:
        if epoch != self._known_order[0]:
            order = generator(self.seed, "order", epoch).permutation(len(self.source.case_ids))
            self._known_order = epoch, order
        return self._known_order[1]


def _held(array: np.ndarray, device: str) -> Tensor:
    """An array as a tensor of the same type; a read-only one is copied, since torch knows no such thing."""
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def _places(label: np.ndarray, value: int) -> np.ndarray:
    """Flat indices of a label value."""
    return np.flatnonzero(label == value).astype(np.int64 if label.size > np.iinfo(np.int32).max else np.int32)
