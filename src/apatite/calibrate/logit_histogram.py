"""The probabilities of a case as volume per logit, apart by what the reference says of each voxel.

Temperature, reliability and Brier score need no more of a case than how much volume lies at which logit. Each bin keeps
the mean logit of its voxels, so that only the curvature within a bin is lost, and hundreds of cases fit into memory.

Only voxels take part that could have been calcium (or that label): in the empty rest of a region every model is right,
and a million voxels of brain would swamp the few that matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Num
from scipy import ndimage
from scipy.special import logit

from apatite.core.errors import DataError

NUM_BINS: Final = 512
LEAST_PROBABILITY: Final = 1e-6
"""A probability is clipped to this, and to 1 minus this, before its logit is taken."""
MAX_LOGIT: Final = float(logit(1 - LEAST_PROBABILITY))
BAND_HU: Final = 100.0
"""Below it nothing is calcium, not even a faint rim."""
BAND_PROBABILITY: Final = 0.01
"""A voxel to which a model gives at least this much takes part, whatever its HU."""
BAND_VOXELS: Final = 2
"""So near a voxel of the reference, along any axis and the diagonals, every voxel takes part."""

CENTRES: Final[Float64[np.ndarray, "bins"]] = (np.arange(NUM_BINS) + 0.5) * (2 * MAX_LOGIT / NUM_BINS) - MAX_LOGIT
CENTRES.setflags(write=False)

_Voxels = Bool[np.ndarray, "slices rows columns"]


class Scale(NamedTuple):
    """How logits are calibrated: divided by the temperature, then moved by the offset."""

    temperature: float
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitHistogram:
    """The voxels of one case and one label.

    Attributes:
        weight_mm3: Volume at each logit: first row not marked by the reference, second row marked.
        logit: Mean logit of the voxels of each bin; its centre where it is empty.
        num_voxels: How many voxels were counted.
    """

    weight_mm3: Float64[np.ndarray, "2 bins"]
    logit: Float64[np.ndarray, "2 bins"]
    num_voxels: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledLogits:
    """The histograms of several cases, in which every patient has the same weight and a voxel that of its volume.

    Attributes:
        weight: Of each case, `cases 2 bins`; those of one patient add up to 1.
        logit: Mean logits, `cases 2 bins`.
        patients: The patient of each case.
        rows: Which of the given cases these are; cases without a voxel are left out.
        num_voxels: Of all cases.
    """

    weight: Float64[np.ndarray, "cases 2 bins"]
    logit: Float64[np.ndarray, "cases 2 bins"]
    patients: list[str]
    rows: Int[np.ndarray, "cases"]
    num_voxels: int

    @property
    def num_patients(self) -> int:
        """Patients with at least one voxel."""
        return len(set(self.patients))


def could_be_label(
    probability: Float[np.ndarray, "slices rows columns"], voxels_hu: Num[np.ndarray, "slices rows columns"] | None
) -> _Voxels:
    """Where a label could be, as far as scan and model tell.

    Args:
        probability: Of the label.
        voxels_hu: For calcium, whose voxels are bright; `None` for labels that no HU can tell.
    """
    is_possible = probability >= BAND_PROBABILITY
    return is_possible if voxels_hu is None else is_possible | (voxels_hu >= BAND_HU)


def lesion_band(
    probability: Float[np.ndarray, "slices rows columns"],
    is_reference: _Voxels,
    is_counted: _Voxels,
    voxels_hu: Num[np.ndarray, "slices rows columns"] | None,
) -> _Voxels:
    """Where a label could be, and the neighbourhood of where it is.

    Args:
        probability: Of the label.
        is_reference: True where the reference marks it.
        is_counted: True inside the region.
        voxels_hu: As in `could_be_label`.
    """
    return is_counted & (could_be_label(probability, voxels_hu) | _near(is_reference))


def logit_histogram(
    probability: Float[np.ndarray, "voxels"],
    is_reference: Bool[np.ndarray, "voxels"],
    voxel_mm3: Float[np.ndarray, "voxels"],
) -> LogitHistogram:
    """Volume per logit.

    Args:
        probability: Of each voxel. That of a whole scan is blended from windows and averaged over slices; it is the
            logit of this blend that is meant.
        is_reference: Whether the reference marks it.
        voxel_mm3: What each voxel stands for.

    Raises:
        DataError: a probability is not a number (`NONFINITE`).
    """
    if np.isnan(probability).any():
        raise DataError("a probability is not a number", fix="predict that case again", code="NONFINITE")
    logits = logit_of(probability)
    place = np.clip(((logits + MAX_LOGIT) * (NUM_BINS / (2 * MAX_LOGIT))).astype(np.int64), 0, NUM_BINS - 1)
    flat = place + NUM_BINS * is_reference
    # Of no voxels at all, bincount makes integers.
    weight = np.bincount(flat, voxel_mm3, minlength=2 * NUM_BINS).astype(np.float64).reshape(2, NUM_BINS)
    total = np.bincount(flat, voxel_mm3 * logits, minlength=2 * NUM_BINS).reshape(2, NUM_BINS)
    mean = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), CENTRES)
    return LogitHistogram(weight_mm3=weight, logit=mean, num_voxels=len(probability))


def logit_of(probability: Float[np.ndarray, "*voxels"]) -> Float64[np.ndarray, "*voxels"]:
    """The logit of a clipped probability: finite, also at 0 and 1."""
    return np.asarray(logit(np.clip(probability.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)))


def pool(histograms: Sequence[LogitHistogram], patients: Sequence[str]) -> PooledLogits:
    """Put cases together so that each patient counts alike, however much bone or calcium the region holds.

    Args:
        histograms: One per case.
        patients: The patient of each.

    Raises:
        ValueError: lengths that do not fit.
    """
    if len(histograms) != len(patients):
        raise ValueError(f"{len(histograms)} histograms for {len(patients)} patients")
    rows = [row for row, histogram in enumerate(histograms) if histogram.weight_mm3.any()]
    names = [patients[row] for row in rows]
    total = dict.fromkeys(names, 0.0)
    for row in rows:
        total[patients[row]] += float(histograms[row].weight_mm3.sum())
    shape = (len(rows), 2, NUM_BINS)
    weights = [histograms[row].weight_mm3 / total[patients[row]] for row in rows]
    return PooledLogits(
        weight=np.array(weights, dtype=np.float64).reshape(shape),
        logit=np.array([histograms[row].logit for row in rows], dtype=np.float64).reshape(shape),
        patients=names,
        rows=np.array(rows, dtype=np.int64),
        num_voxels=sum(histogram.num_voxels for histogram in histograms),
    )


def _near(is_reference: _Voxels) -> _Voxels:
    """Within `BAND_VOXELS` of a voxel of the reference."""
    near = np.zeros_like(is_reference)
    for place in ndimage.find_objects(is_reference.astype(np.uint8)):
        box = tuple(
            slice(max(edge.start - BAND_VOXELS, 0), min(edge.stop + BAND_VOXELS, length))
            for edge, length in zip(place, is_reference.shape, strict=True)
        )
        near[box] = ndimage.binary_dilation(is_reference[box], np.ones((3, 3, 3)), iterations=BAND_VOXELS)
    return near
