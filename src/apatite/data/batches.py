"""The batch of a step: which cases, which crops, in which order, as a function of (seed, step).

Every epoch is a new permutation of the cases; sample number `step * batch + b` of a run is always the same case, so a
run may stop and go on anywhere. Two sources: regions of one size (a memory-mapped array) and crops of whole volumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apatite.core.errors import ConfigError, DataError
from apatite.core.rng import generator
from apatite.core.types import Edges


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some crops and what is known of them.

    Attributes:
        case_ids: One per sample.
        images_hu: `batch 1 depth height width`.
        targets: `batch labels depth height width`, the fraction of each voxel that carries the label; `None` without
            labels.
        is_annotated: `batch labels`, True where the label was looked for.
    """

    case_ids: tuple[str, ...]
    images_hu: Float[Tensor, "batch 1 depth height width"]
    targets: Float[Tensor, "batch labels depth height width"] | None = None
    is_annotated: Bool[Tensor, "batch labels"] | None = None

    def to(self, device: str) -> "Batch":
        """The same batch on a device."""
        if device == "cpu":
            return self
        moved = {name: getattr(self, name) for name in ("images_hu", "targets", "is_annotated")}
        return replace(self, **{name: value if value is None else value.to(device) for name, value in moved.items()})


@runtime_checkable
class LabelledCrop(Protocol):
    """Where crops come from."""

    case_ids: Sequence[str]
    is_annotated: np.ndarray

    def crop(self, case: int, draw: np.random.Generator, *, labelled: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """HU `depth height width` and, if asked for, the target `labels depth height width`."""
        ...


class RegionSource:
    """Regions of one size, whole.

    Args:
        images: int16 HU `cases depth height width`, memory-mapped or not.
        fractions: uint8 `cases labels depth height width`, 255 meaning all of the voxel; `None` without labels.
        case_ids: Names, in the arrays' order.
        is_annotated: `cases labels`.
    """

    def __init__(
        self, images: np.ndarray, fractions: np.ndarray | None, case_ids: Sequence[str], is_annotated: np.ndarray
    ) -> None:
        self.images, self.fractions, self.case_ids, self.is_annotated = images, fractions, case_ids, is_annotated

    def crop(self, case: int, draw: np.random.Generator, *, labelled: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """The whole region; nothing is drawn."""
        del draw
        image = self.images[case].astype(np.float32)
        if not labelled:
            return image, None
        if self.fractions is None:
            return image, np.zeros((self.is_annotated.shape[1], *image.shape), np.float32)
        return image, self.fractions[case].astype(np.float32) / 255


class VolumeSource:
    """Random crops of whole volumes held in memory.

    Args:
        images: int16 HU volumes, each at least as large as the crop.
        labels: uint8 index maps of the same shapes; `None` where a case has no labels.
        case_ids: Names.
        is_annotated: `cases labels`.
        crop_edges: Depth, height, width of a crop.
        foreground_share: Share of labelled crops that contain a randomly chosen labelled voxel, at a random place.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        labels: Sequence[np.ndarray | None],
        case_ids: Sequence[str],
        is_annotated: np.ndarray,
        crop_edges: Edges,
        foreground_share: float = 0.7,
    ) -> None:
        for case_id, image in zip(case_ids, images, strict=True):
            if any(have < want for have, want in zip(image.shape, crop_edges, strict=True)):
                raise DataError(
                    f"the volume {image.shape} is smaller than the crop {crop_edges}",
                    where=case_id,
                    fix="prepare it again with this crop",
                )
        self.images, self.labels, self.case_ids, self.is_annotated = images, labels, case_ids, is_annotated
        self.crop_edges, self.foreground_share = crop_edges, foreground_share

    def crop(self, case: int, draw: np.random.Generator, *, labelled: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """A random crop; if labelled, most often one with a label in it."""
        label = self.labels[case] if labelled else None
        image = self.images[case]
        start = self._random_start(image.shape, draw)
        if label is not None and draw.random() < self.foreground_share:
            start = self._start_around_label(case, label, draw)
        place = tuple(slice(s, s + edge) for s, edge in zip(start, self.crop_edges, strict=True))
        return image[place].astype(np.float32), self._target(label, place) if labelled else None

    def _target(self, label: np.ndarray | None, place: tuple[slice, ...]) -> np.ndarray:
        """One plane per label; all empty where a case has no label map (and nothing annotated)."""
        num_labels = self.is_annotated.shape[1]
        if label is None:
            return np.zeros((num_labels, *self.crop_edges), np.float32)
        values = np.arange(1, num_labels + 1, dtype=np.uint8)
        return (label[place][None] == values[:, None, None, None]).astype(np.float32)

    def _random_start(self, shape: tuple[int, ...], draw: np.random.Generator) -> list[int]:
        return [int(draw.integers(0, have - want + 1)) for have, want in zip(shape, self.crop_edges, strict=True)]

    def _start_around_label(self, case: int, label: np.ndarray, draw: np.random.Generator) -> list[int]:
        """A crop that contains a random voxel of a random annotated label, wherever in the crop it may lie."""
        wanted = draw.permutation(np.flatnonzero(self.is_annotated[case])) + 1
        for value in wanted:
            places = np.flatnonzero(label == value)
            if len(places):
                voxel = np.unravel_index(places[draw.integers(len(places))], label.shape)
                low = [max(0, int(v) - edge + 1) for v, edge in zip(voxel, self.crop_edges, strict=True)]
                high = [
                    min(int(v), have - edge) for v, edge, have in zip(voxel, self.crop_edges, label.shape, strict=True)
                ]
                return [int(draw.integers(lo, hi + 1)) for lo, hi in zip(low, high, strict=True)]
        return self._random_start(label.shape, draw)


class Batches:
    """The batch of a step.

    Args:
        source: Where crops come from.
        cases: Indices into the source that take part.
        batch: Samples per step.
        seed: Of order and crops.
        labelled: Whether targets are wanted.
    """

    def __init__(self, source: LabelledCrop, cases: Sequence[int], batch: int, seed: int, *, labelled: bool) -> None:
        if not len(cases):
            raise DataError(
                "there is no case to learn from", fix="check the split column of the manifest", code="EMPTY_SPLIT"
            )
        if batch < 1:
            raise ConfigError(f"a batch of {batch} samples", fix="use at least 1")
        self.source, self.cases, self.batch, self.seed, self.labelled = source, list(cases), batch, seed, labelled

    def __call__(self, step: int) -> Batch:
        """The batch of that step."""
        numbers = range(step * self.batch, (step + 1) * self.batch)
        chosen = [self._case(number) for number in numbers]
        crops = [
            self.source.crop(case, generator(self.seed, "crop", step, sample), labelled=self.labelled)
            for sample, case in enumerate(chosen)
        ]
        images = torch.from_numpy(np.stack([image for image, _ in crops]))[:, None]
        targets = [target for _, target in crops if target is not None]
        # One target per sample, or a label would be learned with the wrong image.
        assert len(targets) == (self.batch if self.labelled else 0)
        return Batch(
            case_ids=tuple(self.source.case_ids[case] for case in chosen),
            images_hu=images,
            targets=torch.from_numpy(np.stack(targets)) if self.labelled else None,
            is_annotated=torch.from_numpy(self.source.is_annotated[chosen]) if self.labelled else None,
        )

    def _case(self, number: int) -> int:
        """The case of the run's n-th sample: each epoch is its own permutation."""
        epoch, place = divmod(number, len(self.cases))
        return self.cases[self._order(epoch)[place]]

    def _order(self, epoch: int) -> np.ndarray:
        return generator(self.seed, "order", epoch).permutation(len(self.cases))
