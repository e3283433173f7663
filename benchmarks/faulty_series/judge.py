"""What a reader made of a series, measured by one plain arithmetic, and whether that is right.

Two judges' rules keep it fair: where a right volume exists, giving it is right, and refusing is right only for the
reasons that the fault names; where none exists, any volume without a word is silently wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Num

from faulty_series.phantom import BRAIN_LPS_MM, MARKERS, Planes

LESION_FROM_HU = 130
VERDICTS = ("right", "refused_right_code", "refused_other_code", "over_refused", "loud", "silently_wrong", "crashed")


@dataclass(frozen=True, kw_only=True, eq=False)
class Slices:
    """A volume as a tool hands it over, in LPS mm.

    Attributes:
        hu: Values.
        origins_lps_mm: Centre of the first pixel of each slice, in any order.
        column_step_lps_mm, row_step_lps_mm: To the next column, to the next row.
    """

    hu: Num[np.ndarray, "slices rows columns"]
    origins_lps_mm: Float[np.ndarray, "slices 3"]
    column_step_lps_mm: Float[np.ndarray, "3"]
    row_step_lps_mm: Float[np.ndarray, "3"]

    @classmethod
    def on(cls, planes: Planes, hu: Num[np.ndarray, "slices rows columns"]) -> "Slices":
        """Values on the slices of the phantom."""
        return cls(
            hu=hu,
            origins_lps_mm=planes.origins_lps_mm,
            column_step_lps_mm=planes.along_row * planes.spacing_mm[1],
            row_step_lps_mm=planes.along_column * planes.spacing_mm[0],
        )

    @classmethod
    def from_affine(cls, hu: Num[np.ndarray, "k j i"], ijk_to_lps: Float[np.ndarray, "4 4"]) -> "Slices":
        """A regular grid whose slices are its last index."""
        places = np.arange(len(hu))[:, None]
        return cls(
            hu=hu,
            origins_lps_mm=ijk_to_lps[:3, 3] + places * ijk_to_lps[:3, 2],
            column_step_lps_mm=ijk_to_lps[:3, 0],
            row_step_lps_mm=ijk_to_lps[:3, 1],
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is compared.

    Attributes:
        volume_mm3: Of all pixels of at least 130 HU.
        centroid_lps_mm: Theirs.
        lesion_hu, most_hu: Their median, which interpolated edges do not change, and their largest.
        samples_hu: The brain and the three markers, at their places in the patient.
        num_slices: Handed over.
    """

    volume_mm3: float
    centroid_lps_mm: tuple[float, float, float]
    lesion_hu: float
    most_hu: float
    samples_hu: dict[str, float]
    num_slices: int


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a value may be off."""

    volume: float = 0.02
    centroid_mm: float = 0.5
    hu: float = 1.0


STRICT = Tolerance()
LOOSE = Tolerance(volume=0.06, centroid_mm=2.0, hu=15.0)
"""For tools that interpolate: what the first measurement of such faults allowed them."""


def measure(slices: Slices) -> Measured:
    """Volume, centroid and values of all pixels of at least 130 HU.

    A slice stands for half the way to either neighbour along the normal; an end slice for the whole way to its one.
    """
    normal = np.cross(slices.column_step_lps_mm, slices.row_step_lps_mm)
    area_mm2 = float(np.linalg.norm(normal))
    along = slices.origins_lps_mm @ (normal / area_mm2)
    order = np.argsort(along, kind="stable")
    hu, origins, along = slices.hu[order], slices.origins_lps_mm[order], along[order]
    weight = _widths(along)
    found = np.nonzero(hu >= LESION_FROM_HU)
    mm3 = weight[found[0]] * area_mm2
    points = origins[found[0]] + np.outer(found[2], slices.column_step_lps_mm)
    points = points + np.outer(found[1], slices.row_step_lps_mm)
    total = float(mm3.sum())
    x, y, z = ((mm3[:, None] * points).sum(axis=0) / total).tolist() if total else (np.nan,) * 3
    places = {"brain": BRAIN_LPS_MM, **{name: centre for name, (centre, _, _) in MARKERS.items()}}
    steps = (slices.column_step_lps_mm, slices.row_step_lps_mm)
    return Measured(
        volume_mm3=total,
        centroid_lps_mm=(x, y, z),
        lesion_hu=float(np.median(hu[found])) if total else np.nan,
        most_hu=float(hu[found].max()) if total else np.nan,
        samples_hu={name: _at(hu, origins, steps, np.array(place)) for name, place in places.items()},
        num_slices=len(hu),
    )


def _widths(along: Float[np.ndarray, "slices"]) -> Float[np.ndarray, "slices"]:
    if len(along) == 1:
        return np.ones(1)
    gaps = np.diff(along)
    padded = np.concatenate([gaps[:1], gaps, gaps[-1:]])
    return (padded[:-1] + padded[1:]) / 2


def _at(hu: np.ndarray, origins: np.ndarray, steps: tuple[np.ndarray, np.ndarray], place: np.ndarray) -> float:
    """The pixel nearest to a place, or NaN where the slices do not reach it."""
    normal = np.cross(*steps)
    nearest = int(np.argmin(np.abs((origins - place) @ normal)))
    column, row = np.linalg.lstsq(np.stack(steps, axis=1), place - origins[nearest], rcond=None)[0].round().astype(int)
    inside = 0 <= row < hu.shape[1] and 0 <= column < hu.shape[2]
    return float(hu[nearest, row, column]) if inside else float("nan")


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """One right answer, and the flags of which one must go with it (none: it stands alone)."""

    truth: Measured
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a reader may do with a series.

    Attributes:
        accepted: The right answers; empty where no right volume exists.
        codes: The refusals that are right.
        flags: Flags that may go with an answer, beside those it needs.
        others: Answers for further series of the folder; they may be given besides.
        is_rule: Refusing is a rule of whoever measures calcium; for a general reader, reading it is no mistake.
    """

    accepted: tuple[Accepted, ...] = ()
    codes: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    others: tuple[Measured, ...] = ()
    is_rule: bool = False

    @property
    def needed(self) -> frozenset[str]:
        """All flags that some answer needs."""
        return frozenset().union(*(answer.needs for answer in self.accepted))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a tool did.

    Attributes:
        volumes: What it handed over; empty where it refused.
        code: Of its refusal; `None` where the tool has no codes.
        flags: Codes that came with the volume.
        said: Whether it printed or logged anything, in place of flags.
        crashed: It died, hung or answered nonsense.
        note: A word for whoever looks at a failure.
    """

    volumes: tuple[Measured, ...] = ()
    code: str | None = None
    flags: frozenset[str] = field(default_factory=frozenset)
    said: bool = False
    crashed: bool = False
    note: str = ""


def judge(outcome: Outcome, expected: Expectation, tolerance: Tolerance = STRICT) -> str:
    """One of `VERDICTS`. A wrong volume that came with a printed warning is `loud`; `LOOSE` is for general readers."""
    if outcome.crashed:
        return "crashed"
    if not outcome.volumes:
        return _judge_refusal(outcome, expected)
    if expected.is_rule and tolerance is LOOSE:
        return "right"
    # A localizer that a tool kept apart is no volume to measure.
    volumes = [volume for volume in outcome.volumes if volume.num_slices > 2] or list(outcome.volumes)
    mains = [volume for volume in volumes if _is_accepted(volume, outcome, expected, tolerance)]
    rest = [volume for volume in volumes if not _is_accepted(volume, outcome, expected, tolerance)]
    if mains and all(_among(volume, expected.others, tolerance) for volume in rest):
        return "right"
    return "loud" if outcome.said else "silently_wrong"


def _judge_refusal(outcome: Outcome, expected: Expectation) -> str:
    if not expected.codes:
        return "over_refused"
    if outcome.code is None or outcome.code in expected.codes:
        return "refused_right_code"
    return "refused_other_code"


def _is_accepted(volume: Measured, outcome: Outcome, expected: Expectation, tolerance: Tolerance) -> bool:
    for answer in expected.accepted:
        has_word = not answer.needs or bool(answer.needs & outcome.flags) or outcome.said
        if has_word and is_same(volume, answer.truth, tolerance):
            return True
    return False


def _among(volume: Measured, others: Iterable[Measured], tolerance: Tolerance) -> bool:
    return any(is_same(volume, other, tolerance) for other in others)


def is_same(found: Measured, truth: Measured, tolerance: Tolerance = STRICT) -> bool:
    """Whether volume, centroid (hence side), lesion and sampled values agree."""
    off_mm = np.linalg.norm(np.subtract(found.centroid_lps_mm, truth.centroid_lps_mm))
    is_empty = truth.volume_mm3 == 0
    place = found.volume_mm3 == 0 if is_empty else bool(off_mm <= tolerance.centroid_mm)
    # A value that the slices do not reach (NaN) must be out of reach in both.
    pairs = [(found.samples_hu[name], value) for name, value in truth.samples_hu.items()]
    pairs += [] if is_empty else [(found.lesion_hu, truth.lesion_hu), (found.most_hu, truth.most_hu)]
    values = np.array(pairs)
    near = np.isclose(values[:, 0], values[:, 1], rtol=0, atol=tolerance.hu, equal_nan=True)
    size = abs(found.volume_mm3 - truth.volume_mm3) <= tolerance.volume * truth.volume_mm3
    return size and place and bool(near.all())
