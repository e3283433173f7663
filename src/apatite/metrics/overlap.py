"""How far two sets of voxels agree, as counts: Dice, precision and recall follow from three whole numbers.

Counts are kept, not ratios, so that cases can be pooled and nothing is divided before it has to be. A ratio whose
denominator is zero is not a number: neither 0 nor 1 would be true of a case without calcium.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Counted voxels of one case and one label.

    Attributes:
        true_positive: Voxels in both.
        false_positive: Voxels predicted only.
        false_negative: Voxels in the reference only.
    """

    true_positive: int
    false_positive: int
    false_negative: int

    def __post_init__(self) -> None:
        if min(self.true_positive, self.false_positive, self.false_negative) < 0:
            raise ValueError(f"a count of voxels is negative: {self}")

    @property
    def dice(self) -> float:
        """2·TP / (2·TP + FP + FN); nan when both are empty."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); nan when nothing is predicted."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); nan when the reference is empty."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)


def overlap(is_predicted: Bool[np.ndarray, "*shape"], is_reference: Bool[np.ndarray, "*shape"]) -> Overlap:
    """Count the voxels of two sets on the same grid.

    Args:
        is_predicted: True where the prediction is.
        is_reference: True where the reference is; the same shape.

    Raises:
        ValueError: the shapes differ (NumPy would broadcast a slice over a scan without a word).
    """
    if is_predicted.shape != is_reference.shape:
        raise ValueError(f"prediction {is_predicted.shape} and reference {is_reference.shape} differ in shape")
    both = int(np.count_nonzero(is_predicted & is_reference))
    return Overlap(
        true_positive=both,
        false_positive=int(np.count_nonzero(is_predicted)) - both,
        false_negative=int(np.count_nonzero(is_reference)) - both,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
