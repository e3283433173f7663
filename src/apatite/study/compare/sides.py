"""Who is compared with whom: models in the same reading, and the trainings that are one model.

`scratch` and `scratch + calibrated` are two readings of one model and never mixed. `scratch #1`, `scratch #2`, … are
trainings of one model that differ in nothing but the seed; the model's figures are the means over them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from apatite.study.judge import CALIBRATED

_RUN = re.compile(r"(?P<model>.+) #(?P<number>[1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model in one reading.

    Attributes:
        model: Its name, without what tells readings and trainings apart.
        is_calibrated: Whether it is read at its own thresholds.
        runs: The rows that belong to it in a table of outcomes, one per training.
    """

    model: str
    is_calibrated: bool
    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        """In tables."""
        return self.model + (CALIBRATED if self.is_calibrated else "")


def run_name(model: str, number: int) -> str:
    """The name of a training among several of one model; numbers start at 1."""
    return f"{model} #{number}"


def base_name(title: str) -> str:
    """A title without the word for its reading: the name of the training."""
    return title.removesuffix(CALIBRATED)


def sides_of(titles: Sequence[str]) -> list[Side]:
    """The sides that some titles make up, in order of first appearance."""
    runs: dict[tuple[str, bool], list[str]] = {}
    for title in titles:
        found = _RUN.fullmatch(base_name(title))
        model = found["model"] if found else base_name(title)
        runs.setdefault((model, title.endswith(CALIBRATED)), []).append(title)
    return [
        Side(model=model, is_calibrated=is_calibrated, runs=tuple(names))
        for (model, is_calibrated), names in runs.items()
    ]


def pairs_of(sides: Sequence[Side]) -> list[tuple[Side, Side]]:
    """Baseline and model of every comparison: each later model with each earlier one, in the same reading.

    Where only one of two models has a calibration, it is also compared, calibrated, with the other as it is: label maps
    cannot be calibrated any more. A model is never compared with itself in another reading.
    """
    of_model: dict[str, dict[bool, Side]] = {}
    for side in sides:
        of_model.setdefault(side.model, {})[side.is_calibrated] = side
    pairs: list[tuple[Side, Side]] = []
    for first, second in combinations(of_model.values(), 2):
        for is_calibrated in (False, True):
            if is_calibrated in first or is_calibrated in second:
                pair = (first.get(is_calibrated), second.get(is_calibrated))
                baseline, model = (
                    side or next(iter(way.values())) for side, way in zip(pair, (first, second), strict=True)
                )
                if (baseline, model) not in pairs:
                    pairs.append((baseline, model))
    return pairs
