"""An interval on the volume that holds at a promised rate: split conformal prediction, apart by slice thickness.

On cases that chose neither threshold nor temperature, the distance between predicted and annotated volume is measured
on a scale (√V or ln(V + 1), see `scale`). The ⌈(n + 1)(1 − α)⌉-th smallest of n such distances, laid around a new
prediction, covers its annotated volume with a probability of at least 1 − α, whatever the model and whatever its errors
look like; the one assumption is that new patients come as the n did.

Source: Lei et al. 2018 (doi 10.1080/01621459.2017.1307116), algorithm 2 (split conformal) and theorem 2; Vovk et al.
2003 (Mondrian confidence machine): the same within groups that are named beforehand.
Differs: the series of one patient are not exchangeable one by one, so a patient counts once, by the largest distance,
which can only widen the interval; distances down and up may be taken apart (`signed`), each at α / 2.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from apatite.calibrate.scale import SCALES, ScaleName
from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.core.errors import ConfigError, DataError
from apatite.core.registry import nearest
from apatite.core.volume import Estimate
from apatite.metrics.bootstrap import rows_by_patient

Sides = Literal["symmetric", "signed"]
Merge = Literal["none", "neighbours", "all"]

FEW_CASES = 30
"""A group of fewer patients has an interval that is wide, and whose width is a matter of luck."""
EXAMPLE_MM3 = 100.0
"""The volume whose interval stands for all in a sentence."""


@dataclass(frozen=True, kw_only=True)
class IntervalFitConfig:
    """How an interval is fitted.

    Attributes:
        coverage: 1 − α, the promised rate.
        scale: On which distances are measured: `root` or `log`.
        sides: `symmetric` (one distance, on either side) or `signed` (down and up apart, each at α / 2).
        merge: What becomes of a group with too few patients: `none` (it gets no interval), `neighbours` (it is joined
            with the smaller of its neighbours, until all have enough) or `all` (one group). The promise then holds
            for the joined group as a whole, no longer for each thickness in it.
    """

    coverage: float = 0.9
    scale: ScaleName = "root"
    sides: Sides = "symmetric"
    merge: Merge = "none"

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ConfigError(f"a coverage of {self.coverage} is not between 0 and 1", fix="use 0.9")


@dataclass(frozen=True, kw_only=True)
class GroupFit:
    """What was found for one group of slice thickness.

    Attributes:
        num_cases: Patients that it rests on.
        below: How far the annotated volume may lie below the predicted one, on the fit's scale; `None` where
            there are too few patients.
        above: The same upwards.
        largest_mm3: The largest volume predicted among its cases.
        joined: The thickness groups whose cases it rests on; more than one where groups were joined.
    """

    num_cases: int
    below: float | None
    above: float | None
    largest_mm3: float
    joined: tuple[str, ...]

    def __post_init__(self) -> None:
        distances = [distance for distance in (self.below, self.above) if distance is not None]
        is_whole = len(distances) != 1 and self.num_cases >= 0 and 0 <= self.largest_mm3 < math.inf
        is_possible = all(0 <= distance < math.inf for distance in distances)
        if not is_whole or not is_possible or not self.joined or not set(self.joined) <= set(THICKNESS_GROUPS):
            raise ConfigError(f"no interval of a thickness group looks like {self}", fix="fit it again")

    @property
    def is_uncertain(self) -> bool:
        """Whether it rests on so few patients that its width is a matter of luck."""
        return self.num_cases < FEW_CASES


@dataclass(frozen=True, kw_only=True)
class IntervalFit:
    """Intervals by thickness group.

    Attributes:
        coverage: The promised rate.
        groups: One entry for each of `THICKNESS_GROUPS`.
        scale: On which the distances are measured, one of `scale.SCALES`.
        sides: As fitted, see `IntervalFitConfig`.
    """

    coverage: float
    groups: Mapping[str, GroupFit]
    scale: ScaleName = "root"
    sides: Sides = "symmetric"

    def __post_init__(self) -> None:
        IntervalFitConfig(coverage=self.coverage)
        if set(self.groups) != set(THICKNESS_GROUPS):
            raise ConfigError(
                f"intervals for the groups {', '.join(self.groups) or 'none'} are not of this version",
                fix="fit them again",
            )
        farthest = max((g.above or 0.0, g.below or 0.0) for g in self.groups.values())
        if max(farthest) > SCALES[self.scale].most:
            raise ConfigError(f"a distance of {max(farthest)} between volumes is impossible", fix="fit them again")

    def interval(self, volume_mm3: float, thickness_mm: float | None) -> Estimate | None:
        """The interval around a predicted volume, in mm³, never below 0.

        Returns:
            `None` where the slice thickness is unknown, or its group had too few patients.

        Raises:
            DataError: the volume is negative or not a number (`NONFINITE`).
        """
        if not 0 <= volume_mm3 < math.inf:
            raise DataError(f"{volume_mm3} mm³ is not a volume", fix="measure that case again", code="NONFINITE")
        group = self.groups.get(thickness_group(thickness_mm))
        return None if group is None else self.of_group(volume_mm3, group)

    def of_group(self, volume_mm3: float, group: GroupFit) -> Estimate | None:
        """The same by a group's distances; `None` where it has none."""
        if group.below is None or group.above is None:
            return None
        low, high = SCALES[self.scale].around(volume_mm3, group.below, group.above)
        return Estimate(value=volume_mm3, low=low, high=high, unit="mm³", coverage=self.coverage)

    def has_seen(self, volume_mm3: float, thickness_mm: float | None) -> bool:
        """Whether cases of this thickness group, and volumes as large, were among those it was fitted on."""
        group = self.groups.get(thickness_group(thickness_mm))
        return group is not None and group.num_cases > 0 and volume_mm3 <= group.largest_mm3

    def sentences(self) -> list[str]:
        """One line per fitted group for people, its width and what is doubtful about it; then what was never seen."""
        seen = {group.joined: group for group in map(self.groups.__getitem__, THICKNESS_GROUPS) if group.num_cases}
        unseen = [name for name in THICKNESS_GROUPS if not self.groups[name].num_cases]
        lines = [self._sentence(group) for group in seen.values()]
        return [*lines, f"slices {' and '.join(unseen)}: no patient, so no interval"] if unseen else lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe for JSON."""
        groups = {name: {**asdict(group), "joined": list(group.joined)} for name, group in self.groups.items()}
        return {"coverage": self.coverage, "scale": self.scale, "sides": self.sides, "groups": groups}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "IntervalFit":
        """Inverse of `to_dict`; further keys are left alone.

        Raises:
            ConfigError: values that no fit has.
            KeyError, TypeError, ValueError: values of another form.
        """
        _require_known(values["sides"], Sides)
        _require_known(values["scale"], ScaleName)
        groups = {str(name): _group_of(group) for name, group in values["groups"].items()}
        return cls(coverage=float(values["coverage"]), groups=groups, scale=values["scale"], sides=values["sides"])

    def _sentence(self, group: GroupFit) -> str:
        """What the interval of a group of thicknesses is, or why there is none."""
        who = f"slices {' and '.join(group.joined)}: {group.num_cases} patients"
        example = self.of_group(EXAMPLE_MM3, group)
        if example is None:
            return f"{who}, too few for an interval"
        low, high = (float(f"{end:.3g}") for end in (example.low, example.high))
        width = f"{self.coverage:.0%} interval {low:g} to {high:g} for {EXAMPLE_MM3:g} mm³"
        doubts = ["joined: it holds for them together, not for each"] if len(group.joined) > 1 else []
        few = f"fewer than {FEW_CASES} patients: wide, and how wide is a matter of luck"
        doubts += [few] if group.is_uncertain else []
        return f"{who}, {width}" + (f" ({'; '.join(doubts)})" if doubts else "")


Fitted = Callable[[tuple[str, ...]], GroupFit]
"""Fits the cases of some thickness groups together."""


def fit_interval(
    predicted_mm3: Float[np.ndarray, "cases"],
    reference_mm3: Float[np.ndarray, "cases"],
    patients: Sequence[str],
    thickness_mm: Sequence[float | None],
    config: IntervalFitConfig,
) -> IntervalFit:
    """Fit an interval per thickness group on cases that chose neither threshold nor temperature.

    Args:
        predicted_mm3: Volume of each case as it will be predicted later: same threshold, same gate.
        reference_mm3: Annotated volume of each.
        patients: The patient of each; in a group a patient counts once, by the largest distance.
        thickness_mm: Slice thickness of each; cases where it is unknown take no part.
        config: Coverage, sides, and what becomes of small groups.

    Raises:
        DataError: a volume is negative or not finite (`NONFINITE`).
        ValueError: lengths that do not fit.
    """
    _check(predicted_mm3, reference_mm3, patients, thickness_mm)
    names = [thickness_group(thickness) for thickness in thickness_mm]
    signed = SCALES[config.scale].difference(reference_mm3, predicted_mm3)

    def fitted(joined: tuple[str, ...]) -> GroupFit:
        rows = [row for row, name in enumerate(names) if name in joined]
        below, above = _distances(signed[rows], [patients[row] for row in rows], config)
        largest_mm3 = float(max((predicted_mm3[row] for row in rows), default=0.0))
        num_cases = len({patients[row] for row in rows})
        return GroupFit(num_cases=num_cases, below=below, above=above, largest_mm3=largest_mm3, joined=joined)

    groups = {}
    for joined in _joined(fitted, config.merge):
        groups |= dict.fromkeys(joined.joined, joined)
    return IntervalFit(coverage=config.coverage, groups=groups, scale=config.scale, sides=config.sides)


def _joined(fitted: Fitted, merge: Merge) -> list[GroupFit]:
    """The groups, joined as asked for; a thickness that nobody was scanned with stays alone, without an interval."""
    groups = [fitted((name,)) for name in THICKNESS_GROUPS]
    unseen, seen = [g for g in groups if g.num_cases == 0], [g for g in groups if g.num_cases]
    while merge != "none" and len(seen) > 1 and (merge == "all" or any(g.below is None for g in seen)):
        at = min(range(len(seen)), key=lambda place: seen[place].num_cases)
        beside = min((place for place in (at - 1, at + 1) if 0 <= place < len(seen)), key=lambda p: seen[p].num_cases)
        first, last = min(at, beside), max(at, beside)
        seen[first : last + 1] = [fitted((*seen[first].joined, *seen[last].joined))]
    return [*unseen, *seen]


def _distances(
    signed: Float[np.ndarray, "cases"], patients: Sequence[str], config: IntervalFitConfig
) -> tuple[float | None, float | None]:
    """How far down and up the interval reaches; `None` where there are too few patients."""
    if config.sides == "symmetric":
        distance = conformal_quantile(_largest(np.abs(signed), patients), config.coverage)
        return distance, distance
    level = 1 - (1 - config.coverage) / 2
    below = conformal_quantile(_largest(-signed, patients), level)
    above = conformal_quantile(_largest(signed, patients), level)
    # Never past the prediction itself: an interval that leaves it out would be narrower, and nobody would believe it.
    return None if below is None else max(0.0, below), None if above is None else max(0.0, above)


def conformal_quantile(scores: Float[np.ndarray, "n"], level: float) -> float | None:
    """The ⌈(n + 1) · level⌉-th smallest score; `None` where that is more than there are (it would be infinite)."""
    # 30 · 0.9 is 27 and a little in floating point, which must not become 28.
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else None


def _largest(scores: Float[np.ndarray, "cases"], patients: Sequence[str]) -> Float[np.ndarray, "patients"]:
    """The largest score of each patient."""
    return np.array([scores[rows].max() for rows in rows_by_patient(patients)], dtype=np.float64)


def _group_of(values: Mapping[str, Any]) -> GroupFit:
    """Inverse of `asdict`, with numbers that are numbers."""
    below, above = (None if values[side] is None else float(values[side]) for side in ("below", "above"))
    return GroupFit(
        num_cases=int(values["num_cases"]),
        below=below,
        above=above,
        largest_mm3=float(values["largest_mm3"]),
        joined=tuple(str(name) for name in values["joined"]),
    )


def _check(
    predicted_mm3: np.ndarray, reference_mm3: np.ndarray, patients: Sequence[str], thickness_mm: Sequence[float | None]
) -> None:
    if len({len(predicted_mm3), len(reference_mm3), len(patients), len(thickness_mm)}) > 1:
        raise ValueError(
            f"{len(predicted_mm3)} volumes, {len(reference_mm3)} references, {len(patients)} patients and "
            f"{len(thickness_mm)} thicknesses do not belong together"
        )
    for volumes in (predicted_mm3, reference_mm3):
        if not (np.isfinite(volumes).all() and (volumes >= 0).all()):
            raise DataError(
                "a volume is negative or not a finite number",
                fix="leave that case out or measure it again",
                code="NONFINITE",
            )


def _require_known(name: str, kind: object) -> None:
    names = list(get_args(kind))
    if name not in names:
        raise ConfigError(f"unknown choice {name!r}", fix=nearest(str(name), names))
