"""Every row is judged by the same lines: development cases, original voxels, threshold 0.5, no calibration."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from apatite.io.leaks import refuse_leaks
from apatite.io.store import Prepared
from apatite.segment.predict import Predictor
from apatite.study.judge import judge
from apatite.study.run import labelled_cases
from fewshot.results import kept

T = TypeVar("T")
SPLIT = "development"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Outcomes as plain values, and the wall seconds they took."""

    outcomes: list[dict[str, Any]]
    seconds: float


def judge_on_development(predictor: Predictor, prepared: Prepared, most: int | None = None) -> Judged:
    """Predict the first `most` development cases (all of them without it) and count."""
    refuse_leaks(prepared.cases, {})
    cases = labelled_cases(prepared, SPLIT)[:most]
    begun = time.monotonic()
    found = judge("row", predictor, None, prepared.manifest, cases, _say_now_and_then)
    return Judged(outcomes=kept(found["row"]), seconds=round(time.monotonic() - begun, 1))


def _say_now_and_then(items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
    for number, item in enumerate(items):
        if number % 10 == 0:
            print(f"{stage}, case {number + 1} of {total}", flush=True)
        yield item
