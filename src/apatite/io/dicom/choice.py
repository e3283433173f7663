"""Which series of a study is scored: one rule that can be read, and its reasons in words.

The order of the rule: how much of the head a series shows, then a soft kernel before an unknown one before a bone one,
then the thickness, then the number of slices. The artery region itself is only found after localisation, so the extent
along the normal stands in for its coverage here.

Source: docs/explanation/dicom.md; the 130 HU volume grows with sharp kernels and changes with thick slices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from apatite.core.scan import SliceStack
from apatite.io.dicom.series import Series

WHOLE_HEAD_MM: Final = 110.0
PART_OF_HEAD_MM: Final = 40.0
"""Extents that count as the whole head, and as a block that may hold the region of 32 mm with some margin."""
PREFERRED_MM: Final = (0.5, 3.0)
"""Thickness that is preferred; within it, thinner is better."""

_COVERAGE = ("the whole head", "a part of the head", "a small part of the head")
_KERNEL = {"soft": 0, "": 1, "bone": 2}
_KERNEL_WORDS = ("soft kernel", "unknown kernel", "bone kernel")


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A measurable series of a study.

    Attributes:
        case_id: Its name.
        series: Laid out.
        kernel_class: `soft`, `bone`, or empty where unknown.
    """

    case_id: str
    series: Series
    kernel_class: str


class Rank(NamedTuple):
    """The rule: the smaller, the better; the first entry that differs decides.

    Attributes:
        coverage: 0 the whole head, 1 a part of it, 2 a small part.
        kernel: 0 soft, 1 unknown, 2 bone.
        thickness_class: 0 preferred, 1 thicker, 2 thinner.
        thickness_mm: Thinner is better, except below the preferred range, where it is negative.
        fewer_slices: Number of slices, negative.
        series_uid: So that the choice never depends on the order of files.
        case_id: The same, for two parts of one series.
    """

    coverage: int
    kernel: int
    thickness_class: int
    thickness_mm: float
    fewer_slices: int
    series_uid: str
    case_id: str


_DECIDED_BY: Final = ("coverage", "kernel", "thickness", "thickness", "number of slices", "order of UIDs", "order")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The series of a study to score.

    Attributes:
        case_id: The chosen one.
        why: What speaks for it.
        others: Each other candidate, and what decided against it.
    """

    case_id: str
    why: str
    others: tuple[tuple[str, str], ...]


def choose_series(candidates: Sequence[Candidate]) -> Choice:
    """The best series of one study.

    Args:
        candidates: The series of the study that are neither refused nor set aside; at least one.
    """
    best, *others = sorted(candidates, key=rank)
    return Choice(
        case_id=best.case_id,
        why=_in_words(best),
        others=tuple((other.case_id, _difference(best, other)) for other in others),
    )


def rank(candidate: Candidate) -> Rank:
    """Where a candidate stands."""
    stack = _stack(candidate)
    thickness_mm = thickness_of(stack)
    coverage = sum(extent_mm(stack) < least for least in (WHOLE_HEAD_MM, PART_OF_HEAD_MM))
    thickness_class = 2 if thickness_mm < PREFERRED_MM[0] else 1 if thickness_mm > PREFERRED_MM[1] else 0
    return Rank(
        coverage=coverage,
        kernel=_KERNEL[candidate.kernel_class],
        thickness_class=thickness_class,
        thickness_mm=-thickness_mm if thickness_class == 2 else thickness_mm,
        fewer_slices=-stack.shape[0],
        series_uid=candidate.series.headers[0].series_uid,
        case_id=candidate.case_id,
    )


def extent_mm(stack: SliceStack) -> float:
    """From the outer face of the first slice to that of the last, along the normal."""
    ends = stack.positions_mm[[0, -1]]
    return float(ends[1] - ends[0] + (stack.thickness_mm[0] + stack.thickness_mm[-1]) / 2)


def thickness_of(stack: SliceStack) -> float:
    """The thickness of most slices: the lower median, rounded so that a ten-thousandth does not decide."""
    return round(float(np.quantile(stack.thickness_mm, 0.5, method="lower")), 2)


def _stack(candidate: Candidate) -> SliceStack:
    if candidate.series.stack is None:
        raise ValueError(f"{candidate.case_id} was refused and cannot be chosen")
    return candidate.series.stack


def _in_words(candidate: Candidate) -> str:
    stack, place = _stack(candidate), rank(candidate)
    return (
        f"shows {_COVERAGE[place.coverage]} ({extent_mm(stack):.0f} mm), {_KERNEL_WORDS[place.kernel]}, "
        f"{thickness_of(stack):g} mm thick, {stack.shape[0]} slices"
    )


def _difference(best: Candidate, other: Candidate) -> str:
    first = next(place for place, pair in enumerate(zip(rank(best), rank(other), strict=True)) if pair[0] != pair[1])
    return f"{_DECIDED_BY[first]} decided: {_in_words(other)}"
