"""From a prepared folder to the source that batches are drawn from, held in memory where it fits."""

from collections.abc import Sequence

import numpy as np

from apatite.core.errors import ConfigError
from apatite.core.types import Edges
from apatite.data.batches import RegionSource, VolumeSource
from apatite.io.store import Prepared

Source = RegionSource | VolumeSource


def open_source(prepared: Prepared, rows: Sequence[int], crop: Edges | None, device: str = "cpu") -> Source:
    """The chosen cases of a prepared folder, in the order of `rows`.

    Args:
        prepared: An opened folder.
        rows: Cases, by their place in the folder.
        crop: Edges of a crop, for whole volumes; regions come whole, and a crop given for them must be theirs.
        device: Where the cases are held; crops are then made, and augmented, there.

    Raises:
        ConfigError: a crop is missing for volumes, or is not the regions' shape.
        DataError: a volume is smaller than the crop.
    """
    case_ids = [prepared.cases[row].case_id for row in rows]
    is_annotated = prepared.is_annotated[rows]
    if prepared.kind == "region":
        shape = tuple(prepared.images.shape[1:])
        if crop is not None and tuple(crop) != shape:
            raise ConfigError(
                f"crop {crop} given, but the prepared regions are {shape}",
                fix="leave the crop out, or prepare that size",
            )
        # Regions are small: 5 000 of 96×96×32 are 3 GB. What was asked for is read once, at memory speed.
        return RegionSource(
            np.asarray(prepared.images[rows]),
            np.asarray(prepared.fractions[rows]),
            case_ids,
            is_annotated,
            device,
            spacings_mm=[prepared.grid(row).spacing_mm for row in rows],
        )
    if crop is None:
        raise ConfigError("whole volumes need a crop", fix="set crop=[64, 64, 64]")
    volumes = [prepared.volume(case_id) for case_id in case_ids]
    labels = [None if volume.labels is None else np.asarray(volume.labels[:]) for volume in volumes]
    return VolumeSource(
        [np.asarray(volume.image[:]) for volume in volumes],
        labels,
        case_ids,
        is_annotated,
        crop,
        device,
        spacings_mm=[volume.grid.spacing_mm for volume in volumes],
    )


def crop_of(prepared: Prepared, crop: Edges | None) -> Edges:
    """The input size of a network trained on a prepared folder: the regions' shape, or the given crop.

    Raises:
        ConfigError: whole volumes without a crop.
    """
    if prepared.kind == "region":
        depth, height, width = prepared.images.shape[1:]
        return depth, height, width
    if crop is None:
        raise ConfigError("whole volumes need a crop", fix="set crop=[64, 64, 64]")
    return crop
