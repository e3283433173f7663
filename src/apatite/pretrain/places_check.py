"""Does a network know where it looks? The error of its points on scans that it never learned from.

The scans are those of the development split: they are looked at, and nothing is learned from them. Beside the error of
each branch stands that of a guess without looking, the mean place of all crops that were learned from, which no other
constant beats in the squared error that is learned: a network that is not better knows nothing of places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import torch
from jaxtyping import Float
from torch import Tensor

from apatite.core.types import Edges
from apatite.data.batches import Batch, Batches
from apatite.data.places import VolumeSizes
from apatite.data.sources import open_source
from apatite.io.hold_out import is_held_out
from apatite.io.store import Prepared
from apatite.losses.position import point_error_mm

NUM_SCANS = 16
CROPS_PER_SCAN = 4

Locate = Callable[[Batch], Float[Tensor, "batch 9 3"]]
"""Where a branch believes the crops of a batch to lie, as fractions of their volumes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutPlaces:
    """What places are asked for, and what would be said without looking.

    Attributes:
        crops: One crop each, of scans that are not learned from; on the host.
        guess: The mean of the points of all crops that are learned from.
    """

    crops: tuple[Batch, ...]
    guess: Float[Tensor, "1 9 3"]


def held_out_places(
    prepared: Prepared, learned: Sequence[int], crop: Edges | None, seed: int, hold_out: Sequence[str] = ()
) -> HeldOutPlaces | None:
    """The same crops of the same development scans whenever it is called with the same seed.

    Args:
        prepared: The prepared folder of a run.
        learned: The cases that the run learns from, by their place in the folder.
        crop: Edges of its crops.
        seed: Of the run.
        hold_out: Cases that it must not see at all, as `vendor=GE` (`io.hold_out`).

    Returns:
        `None` where there is nothing to find: no development scan, no case that is learned from, or regions, which
        are shown whole.

    Raises:
        DataError: a development scan is smaller than the crop.
    """
    rows = [
        row for row in prepared.case_index("development").tolist() if not is_held_out(prepared.cases[row], hold_out)
    ][:NUM_SCANS]
    if prepared.kind == "region" or crop is None or not rows or not learned:
        return None
    source = open_source(prepared, rows, crop)
    if source.shows_whole_volumes:
        return None
    draw = Batches(source, 1, seed, labelled=False)
    # Numbered through, so that what is hidden from a network differs from crop to crop.
    crops = tuple(replace(draw(number), first_sample=number) for number in range(CROPS_PER_SCAN * len(rows)))
    return HeldOutPlaces(crops=crops, guess=_mean_points(prepared, learned, crop))


@torch.no_grad()
def held_out_point_error_mm(
    locate: Mapping[str, Locate], held_out: HeldOutPlaces | None, device: str = "cpu"
) -> dict[str, float]:
    """How far the points of each branch are from where they are, in mm.

    Args:
        locate: One function per branch, by its name; the network is in the mode for evaluation.
        held_out: What to ask for.
        device: Where the branches compute.

    Returns:
        For each branch, and for the guess without looking under the name `guess`: `NAME_point_error_mm`, the mean over
        crops of the mean distance over a crop's nine points, and `NAME_point_error_median_mm`, the median over crops.
        Empty where nothing is asked for.
    """
    if held_out is None:
        return {}
    found: dict[str, list[float]] = {name: [] for name in (*locate, "guess")}
    for crop in held_out.crops:
        moved = crop.to(device)
        said = {name: ask(moved).float().cpu() for name, ask in locate.items()} | {"guess": held_out.guess}
        assert crop.places is not None  # a prepared folder always knows its spacing
        for name, points in said.items():
            found[name].append(point_error_mm(points, crop.places.points, crop.places.extent_mm).item())
    row = {}
    for name, errors in found.items():
        row |= {f"{name}_point_error_mm": fmean(errors), f"{name}_point_error_median_mm": median(errors)}
    return row


def _mean_points(prepared: Prepared, learned: Sequence[int], crop: Edges) -> Float[Tensor, "1 9 3"]:
    """Mean over cases of the points of the crop in the middle, which are the mean over all crops of a volume."""
    grids = [prepared.grid(row) for row in learned]
    sizes = VolumeSizes.of([grid.shape for grid in grids], [grid.spacing_mm for grid in grids])
    starts = [[(have - want) / 2 for have, want in zip(grid.shape, crop, strict=True)] for grid in grids]
    return sizes.places(range(len(grids)), starts, crop).points.mean(dim=0, keepdim=True)
