"""How many lesions were found, whatever their size: 26-connected components, and any overlap is a hit.

Voxel overlap is ruled by the largest plaque. A reader also asks how many foci were seen and how many are false. Hits
are counted on both sides, because one predicted lesion may cover several of the reference, and the other way round.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

_ALL_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class LesionCounts:
    """Lesions of one case.

    Attributes:
        reference: Lesions in the reference.
        found: Those of them that any predicted voxel touches.
        predicted: Lesions in the prediction.
        true: Those of them that touch any reference voxel.
    """

    reference: int
    found: int
    predicted: int
    true: int

    @property
    def sensitivity(self) -> float:
        """Share of the reference's lesions that were found; nan without any."""
        return self.found / self.reference if self.reference else math.nan

    @property
    def precision(self) -> float:
        """Share of the predicted lesions that are true; nan without any."""
        return self.true / self.predicted if self.predicted else math.nan

    @property
    def f1(self) -> float:
        """(found + true) / (reference + predicted); nan when both sides are empty.

        With every lesion counted as a hit on its own side, found + true takes the place of 2·TP in
        2·TP / (2·TP + FP + FN), FP = predicted − true and FN = reference − found. Where lesions match one to one, both
        are the same.
        """
        lesions = self.reference + self.predicted
        return (self.found + self.true) / lesions if lesions else math.nan


def count_lesions(
    is_predicted: Bool[np.ndarray, "slices rows columns"], is_reference: Bool[np.ndarray, "slices rows columns"]
) -> LesionCounts:
    """Count lesions and hits in both directions.

    One large predicted lesion that covers three reference lesions finds all three, and is one true prediction.

    Args:
        is_predicted: True where the prediction is, on the original slices.
        is_reference: True where the reference is.
    """
    box = box_of(is_predicted | is_reference)
    is_predicted, is_reference = is_predicted[box], is_reference[box]
    num_reference, num_found = _count_touched(is_reference, is_predicted)
    num_predicted, num_true = _count_touched(is_predicted, is_reference)
    return LesionCounts(reference=num_reference, found=num_found, predicted=num_predicted, true=num_true)


def box_of(is_any: Bool[np.ndarray, "slices rows columns"]) -> tuple[slice, ...]:
    """The part of a scan that holds every marked voxel: a thousandth of a head; empty where none is marked."""
    edges = []
    for axis in range(is_any.ndim):
        others = tuple(other for other in range(is_any.ndim) if other != axis)
        places = np.flatnonzero(is_any.any(axis=others))
        edges.append(slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0))
    return tuple(edges)


def _count_touched(is_lesion: np.ndarray, is_other: np.ndarray) -> tuple[int, int]:
    """Components of the one, and how many of them share a voxel with the other."""
    labels, num_lesions = ndimage.label(is_lesion, structure=_ALL_26)  # pyright: ignore[reportGeneralTypeIssues]
    touched = np.unique(labels[is_other])
    return int(num_lesions), int(np.count_nonzero(touched))
