"""A large volume through a network of fixed crop: overlapping windows, blended by a Gaussian, slab by slab.

Windows come in order of depth. Once one begins at a slice, nothing above that slice can change any more, so the slices
above are finished and leave. The running sum never holds more than one crop-depth of slices, however deep the volume:

    memory = crop depth * height * width * (num_labels + 1) * 4 bytes         the running sum and the summed weights
           + batch * crop voxels * (channels + num_labels) * 4 bytes          the windows under way, without the network

Source: Isensee et al. 2021 (nnU-Net), Gaussian importance; positions and weights as in MONAI's
`sliding_window_inference(mode="gaussian", sigma_scale=0.125)`.
Differs: MONAI holds the sum for the whole volume.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from apatite.core.errors import ConfigError, ModelError
from apatite.core.scan import PADDING_HU
from apatite.core.types import Edges, Image

SIGMA_SCALE = 0.125
"""Standard deviation of the Gaussian, in crop edges."""
SMALLEST_WEIGHT = 1e-3
"""Below this a window's corner would be divided by almost nothing."""

Network = Callable[[Image], Image]
Crop = Float[Tensor, "channels crop_depth crop_height crop_width"]


@runtime_checkable
class CropReader(Protocol):
    """A volume of which only crops are ever in memory."""

    @property
    def shape(self) -> Edges:
        """Depth, height, width of the whole volume."""
        ...

    def read(self, begin: Edges, end: Edges) -> Crop:
        """The voxels from `begin` up to, not including, `end`."""
        ...


@dataclass(frozen=True, kw_only=True)
class SlidingConfig:
    """How windows cover a volume.

    Attributes:
        crop: Edges of a window in voxels: depth, height, width.
        overlap: Share of a window that the next one covers again, from 0 to below 1.
        batch: Windows per call of the network.
        padding: What surrounds a volume that is smaller than a window; air in HU.
    """

    crop: Edges
    overlap: float = 0.5
    batch: int = 2
    padding: float = PADDING_HU

    def __post_init__(self) -> None:
        if min(self.crop) < 1 or not 0 <= self.overlap < 1 or self.batch < 1:
            raise ConfigError(f"windows of {self.crop}, overlap {self.overlap}, batch {self.batch} cover nothing")


@dataclass(frozen=True, kw_only=True, eq=False)
class Slab:
    """Finished slices: `values` of `labels depth height width`, the first of which is slice `first` of the volume.

    The values are overwritten once the next slab is asked for.
    """

    first: int
    values: Float[Tensor, "labels depth height width"]


def slide(
    image: Image | CropReader,
    network: Network,
    config: SlidingConfig,
    out: Shaped[np.ndarray, "labels depth height width"] | None = None,
) -> Shaped[np.ndarray, "labels depth height width"]:
    """Run a network over a whole volume.

    Args:
        image: `1 channels depth height width`, or a reader of crops.
        network: From windows to what is to be blended, `batch labels` and the window's own edges. Blend probabilities
            (`Segmenter.probability`), because a mean of logits lets one sure window overrule the others.
        config: The windows.
        out: Where to write, for example a float16 memory map; a new float32 array where none is given.

    Returns:
        `out`, filled. Every voxel is a weighted mean over at least one window.

    Raises:
        ModelError: the network's output has not the window's edges.
        ConfigError: `out` has another shape than the result.
    """
    stream = slabs(image, network, config)
    slab = next(stream)
    shape = (slab.values.shape[0], *_shape(image))
    out = np.empty(shape, dtype=np.float32) if out is None else out
    if out.shape != shape:
        raise ConfigError(f"the array {out.shape} does not fit the result {shape}")
    for part in chain([slab], stream):
        out[:, part.first : part.first + part.values.shape[1]] = part.values.cpu().numpy()
    return out


def slabs(image: Image | CropReader, network: Network, config: SlidingConfig) -> Iterator[Slab]:
    """As `slide`, but hand over each slab as soon as it is finished, from the first slice to the last."""
    shape = _shape(image)
    padded = _edges(max(have, want) for have, want in zip(shape, config.crop, strict=True))
    margin = _edges((wide - have) // 2 for wide, have in zip(padded, shape, strict=True))
    places = product(*(window_starts(*edges, config.overlap) for edges in zip(padded, config.crop, strict=True)))
    blend: _Blend | None = None
    while group := [_edges(place) for place in islice(places, config.batch)]:
        windows = torch.stack([_read(image, start, margin, config) for start in group])
        values = network(windows).detach().float()
        if values.shape[2:] != config.crop or len(values) != len(group):
            raise ModelError(f"{tuple(values.shape)} came out for windows of {config.crop}", code="MODEL_SHAPE")
        blend = blend or _Blend(values.shape[1], padded, config.crop, values.device)
        for start, window in zip(group, values, strict=True):
            if start[0] > blend.top:
                yield from _unpadded(blend.finish(start[0]), margin, shape)
                blend.advance(start[0])
            blend.add(start, window)
    if blend is not None:
        yield from _unpadded(blend.finish(padded[0]), margin, shape)


def importance(crop: Edges, device: torch.device | str = "cpu") -> Float[Tensor, "depth height width"]:
    """Weight of each voxel of a window: a Gaussian around its middle, at least `SMALLEST_WEIGHT`."""
    profiles = []
    for edge in crop:
        offset = torch.arange(edge, dtype=torch.float32, device=device) - (edge - 1) / 2
        profiles.append(torch.exp(-(offset**2) / (2 * (SIGMA_SCALE * edge) ** 2)))
    weights = torch.einsum("d,h,w->dhw", *profiles)
    return weights.clamp(min=max(float(weights.min()), SMALLEST_WEIGHT))


def window_starts(edge: int, crop_edge: int, overlap: float) -> list[int]:
    """Where windows begin along one axis; the last is moved back so that it ends with the volume."""
    if edge <= crop_edge:
        return [0]
    step = max(int(crop_edge * (1 - overlap)), 1)
    count = math.ceil((edge - crop_edge) / step) + 1
    return [min(index * step, edge - crop_edge) for index in range(count)]


class _Blend:
    """The running sum: one crop-depth of slices, the first of which is slice `top`."""

    def __init__(self, num_labels: int, padded: Edges, crop: Edges, device: torch.device) -> None:
        self.crop, self.top = crop, 0
        self.importance = importance(crop, device)
        # The last channel sums the weights.
        self.sums = torch.zeros((num_labels + 1, crop[0], *padded[1:]), device=device)

    def add(self, start: Edges, window: Float[Tensor, "labels depth height width"]) -> None:
        """Add a window that begins at slice `top`."""
        (_, height, width), (_, y, x) = self.crop, start
        place = self.sums[:, :, y : y + height, x : x + width]
        place[:-1].addcmul_(window, self.importance)
        place[-1].add_(self.importance)

    def finish(self, top: int) -> Slab:
        """The slices above `top`, divided where they lie."""
        count = top - self.top
        values = self.sums[:-1, :count].div_(self.sums[-1:, :count])
        return Slab(first=self.top, values=values)

    def advance(self, top: int) -> None:
        """Make room below, one channel at a time: a copy of all of them would be the largest thing in memory."""
        count = top - self.top
        for plane in self.sums:
            kept = plane[count:].clone()
            plane[: len(kept)] = kept
            plane[len(kept) :] = 0
        self.top = top


def _unpadded(slab: Slab, margin: Edges, shape: Edges) -> Iterator[Slab]:
    """The part of a slab that lies in the volume, if any."""
    first = max(slab.first - margin[0], 0)
    end = min(slab.first + slab.values.shape[1] - margin[0], shape[0])
    if end > first:
        skipped = first + margin[0] - slab.first
        rows, columns = (slice(m, m + have) for m, have in zip(margin[1:], shape[1:], strict=True))
        yield Slab(first=first, values=slab.values[:, skipped : skipped + end - first, rows, columns])


def _read(image: Image | CropReader, start: Edges, margin: Edges, config: SlidingConfig) -> Crop:
    """One window, with padding where it leaves the volume."""
    shape = _shape(image)
    wanted = [place - m for place, m in zip(start, margin, strict=True)]
    begin = _edges(max(place, 0) for place in wanted)
    end = _edges(min(p + edge, have) for p, edge, have in zip(wanted, config.crop, shape, strict=True))
    if isinstance(image, Tensor):
        part = image[0, :, begin[0] : end[0], begin[1] : end[1], begin[2] : end[2]]
    else:
        part = image.read(begin, end)
    before = [b - place for b, place in zip(begin, wanted, strict=True)]
    after = [p + edge - e for p, edge, e in zip(wanted, config.crop, end, strict=True)]
    pads = [pad for pair in zip(before[::-1], after[::-1], strict=True) for pad in pair]
    return functional.pad(part, pads, value=config.padding) if any(pads) else part


def _shape(image: Image | CropReader) -> Edges:
    if isinstance(image, Tensor):
        if image.shape[0] != 1:
            raise ConfigError(f"{image.shape[0]} volumes at once", where="sliding", fix="give one volume at a time")
        return _edges(image.shape[2:])
    return image.shape


def _edges(values: Iterator[int] | Sequence[int]) -> Edges:
    depth, height, width = values
    return depth, height, width
