"""Who annotates: a perfect reader, and readers as people are.

The perfect reader circles exactly what the plaques made brighter inside the artery as it looks, and applies the
paper's rule to it. A human reader works island by island on each slice: misses small and faint ones, stops a slice
early, cuts a corner off, lets a corner of bone into the circle, and takes a bright spot for calcium.

Source: rates aimed at are those between two readers in Bortsova et al. 2021 (arXiv 2107.09442): sensitivity 74 %,
positive predictive value 90 %.
"""

import math
from typing import cast

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from apatite.calcium.rule import CALCIUM_HU, annotate_calcium
from apatite.phantom.scanner import Acquisition

IsMarked = Bool[np.ndarray, "slices rows columns"]

ADDED_HU = 45.0
"""What a plaque must add to a voxel to be circled: half of the way from blood to the threshold."""
_IN_SLICE = np.zeros((3, 3, 3), dtype=bool)
_IN_SLICE[1] = True


def circle_plaques(acquisition: Acquisition) -> IsMarked:
    """True where plaques add at least `ADDED_HU`, inside the artery as it looks on the slices."""
    return (acquisition.artery_seen > 0.1) & (acquisition.excess_hu >= ADDED_HU)


def read_perfectly(acquisition: Acquisition) -> IsMarked:
    """The paper's annotation by a reader who knows what is plaque; empty for a patient without calcium."""
    circled = circle_plaques(acquisition)
    result = np.zeros_like(circled)
    box = _box(circled)
    if box is not None:
        result[box] = annotate_calcium(acquisition.scan.voxels_hu[box], circled[box])
    return result


def read_humanly(acquisition: Acquisition, is_calcium: IsMarked, rng: np.random.Generator) -> IsMarked:
    """The annotation of one imperfect reader.

    Args:
        acquisition: What is read.
        is_calcium: The perfect reader's annotation.
        rng: Randomness of this reader on this series.
    """
    result = np.zeros_like(is_calcium)
    box = _box(acquisition.artery_seen > 0.02)
    if box is None:
        return result
    voxels, pixel_mm = acquisition.scan.voxels_hu[box], acquisition.scan.stack.column_spacing_mm
    circled = np.zeros(voxels.shape, dtype=bool)
    islands, _ = cast(tuple[np.ndarray, int], ndimage.label(is_calcium[box], structure=_IN_SLICE))
    care = float(rng.normal(0, 0.25))
    for number, place in enumerate(ndimage.find_objects(islands), start=1):
        _circle_island(circled, voxels, (islands, number, place), pixel_mm, care, rng)
    wrong = (voxels >= CALCIUM_HU) & ~is_calcium[box] & (acquisition.artery_seen[box] > 0.02)
    _circle_by_mistake(circled, np.argwhere(wrong), pixel_mm, rng)
    result[box] = annotate_calcium(voxels, circled)
    return result


def _circle_island(circled, voxels, island, pixel_mm, care, rng) -> None:
    """Circle one 2D island of calcium, or not, or not quite."""
    islands, number, place = island
    inside = islands[place] == number
    area_mm2, peak = inside.sum() * pixel_mm**2, float(voxels[place][inside].max())
    visible = 1.75 - care - 2.4 * math.exp(-area_mm2 / 2.5) - 1.2 * math.exp(-(peak - CALCIUM_HU) / 110)
    if rng.random() > 1 / (1 + math.exp(-visible)):
        return
    if inside.sum() > 4 and rng.random() < 0.3:
        points = np.argwhere(inside)
        along = points[:, 1:] @ np.array([math.cos(angle := rng.uniform(0, 2 * math.pi)), math.sin(angle)])
        kept = points[along <= np.quantile(along, rng.uniform(0.6, 0.95))]
        inside = np.zeros_like(inside)
        inside[tuple(kept.T)] = True
    if rng.random() < 0.18:
        reach = max(1, round(1.0 / pixel_mm))
        place = (place[0], *(slice(max(p.start - reach, 0), p.stop + reach) for p in place[1:]))
        grown = np.zeros(voxels[place].shape, dtype=bool)
        grown |= islands[place] == number
        inside = ndimage.binary_dilation(grown, structure=_IN_SLICE, iterations=reach)
    circled[place] |= inside


def _circle_by_mistake(circled: IsMarked, candidates: np.ndarray, pixel_mm: float, rng: np.random.Generator) -> None:
    """Now and then, a spot of bone beside the artery is taken for calcium."""
    for _ in range(rng.poisson(0.4)):
        if len(candidates) == 0:
            return
        k, row, column = candidates[rng.integers(len(candidates))]
        reach = rng.uniform(0.8, 1.5) / pixel_mm
        rows, columns = np.ogrid[: circled.shape[1], : circled.shape[2]]
        circled[k] |= (rows - row) ** 2 + (columns - column) ** 2 <= reach**2


def _box(is_marked: IsMarked) -> tuple[slice, slice, slice] | None:
    """The smallest box, one voxel larger on every side, that holds what is marked."""
    ends = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        marked = np.flatnonzero(is_marked.any(axis=others))
        if len(marked) == 0:
            return None
        ends.append(slice(max(int(marked[0]) - 1, 0), int(marked[-1]) + 2))
    return ends[0], ends[1], ends[2]
