"""The points of a scan that are compared with a template: the head and a rim of air round it, drawn at random.

Where a place is named, points near it are drawn more often: no affine map makes one head another everywhere, and it
should hold where the calcium is measured. A draw depends on the seed and the patient's own millimetres only, so another
order of the array's axes draws the same points.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy import ndimage

from apatite.core.rng import generator
from apatite.core.scan import PADDING_HU
from apatite.ct.isotropic import Cubes
from apatite.ct.matching import Samples, windowed
from apatite.ct.subject import Subject
from apatite.ct.template import TISSUE_HU

FOCUS_MM = 45.0
"""Standard deviation of the points round a focus: the skull base, not the vault."""
RIM_CUBES = 4
"""How much air round the head is compared, in the subject's cubes; more would only dilute."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """How points are drawn.

    Attributes:
        number: About how many.
        seed: Of all draws.
        name: Of this draw.
        focus_ras_mm: Draw more points near here; `None`: the same everywhere.
    """

    number: int
    seed: int
    name: str
    focus_ras_mm: Float[np.ndarray, "3"] | None = None


def draw_samples(cubes: Cubes, subject: Subject, how: Draw) -> Samples:
    """Draw points of a scan.

    Args:
        cubes: The scan, in cubes of the subject's edge, or halved or doubled ones.
        subject: The head in it.
        how: Number, place and seed.

    Returns:
        Values from 0 to 1; what is not the head's own (table, headrest) is air.
    """
    eligible = np.flatnonzero(_on_cubes(_near(subject), cubes) & cubes.is_seen)
    points = _centres(cubes, eligible)
    if how.focus_ras_mm is None:
        weights = np.ones(len(eligible))
    else:
        weights = np.exp(-np.sum((points - how.focus_ras_mm) ** 2, axis=1) / (2 * FOCUS_MM**2))
    # Each point has its own number, so a focus that moves by nothing keeps the points.
    numbers = generator(how.seed, "localise", how.name).random(len(eligible))
    is_chosen = numbers * weights.sum() < how.number * weights
    chosen = eligible[is_chosen]
    is_own = _on_cubes(ndimage.binary_dilation(subject.is_tissue), cubes).ravel()[chosen]
    voxels = cubes.volume.voxels.ravel()[chosen]
    voxels = np.where(~is_own & (voxels > TISSUE_HU), np.float32(PADDING_HU), voxels)
    return Samples(
        points_mm=points[is_chosen] - subject.centre_ras_mm,
        values=windowed(voxels).astype(np.float64),
        pivot_mm=subject.centre_ras_mm,
    )


def _centres(cubes: Cubes, places: Int64[np.ndarray, "places"]) -> Float[np.ndarray, "places 3"]:
    """Centres of cubes, by their places in the flattened array."""
    kji = np.stack(np.unravel_index(places, cubes.volume.grid.shape), axis=-1)
    return cubes.volume.grid.to_ras(kji[:, ::-1].astype(np.float64))


def _near(subject: Subject) -> Bool[np.ndarray, "depth height width"]:
    """The head and its rim, not below its lowest tissue: there is neck that was set aside, or nothing."""
    near = ndimage.binary_dilation(subject.is_tissue, iterations=RIM_CUBES)
    levels = np.flatnonzero(subject.is_tissue.any(axis=(1, 2)))
    near[: levels[0]] = False
    return near


def _on_cubes(is_part: Bool[np.ndarray, "k j i"], cubes: Cubes) -> Bool[np.ndarray, "depth height width"]:
    """A map in the subject's cubes, on cubes twice as fine or as coarse that begin at the same corner."""
    shape = cubes.volume.grid.shape
    if is_part.shape == shape:
        return is_part
    if is_part.shape[0] < shape[0]:
        fine = is_part.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
        return fine[: shape[0], : shape[1], : shape[2]]
    room = [(0, 2 * new - old) for new, old in zip(shape, is_part.shape, strict=True)]
    blocks = np.pad(is_part, room).reshape(shape[0], 2, shape[1], 2, shape[2], 2)
    return np.asarray(blocks.any(axis=(1, 3, 5)))
