"""The grid: every kind of fault, three severities, one base or all three; one seed for each."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faulty_series import (
    damage,
    encoding,
    geometry,
    headers,
    impossible,
    intensity,
    mixing,
    multiframe,
    slices,
    stored,
    surroundings,
)
from faulty_series.folder import Folder, anything_goes
from faulty_series.judge import Expectation
from faulty_series.phantom import BASES

Kind = Callable[[Folder, int], Expectation]
SEVERITIES = (0, 1, 2)


def nothing(folder: Folder, severity: int) -> Expectation:
    """No fault at all: with a kernel, a thickness and an age of its own each time."""
    for image in folder.images:
        image.ConvolutionKernel = ("STANDARD", "SOFT", "H30s")[severity]
    return folder.right()


_MODULES = (
    slices,
    mixing,
    geometry,
    impossible,
    intensity,
    stored,
    encoding,
    multiframe,
    damage,
    headers,
    surroundings,
)
KINDS: dict[str, dict[str, Kind]] = {
    "none": {"nothing": nothing},
    **{
        module.__name__.rpartition(".")[2]: {kind.__name__: kind for kind in (*module.KINDS, *module.ALL_BASES)}
        for module in _MODULES
    },
}
"""Kinds of fault by class and name."""

_ON_ALL_BASES: frozenset[Kind] = frozenset(kind for module in _MODULES for kind in module.ALL_BASES) | {nothing}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One folder of the grid."""

    family: str
    kind: str
    severity: int
    base: str

    @property
    def name(self) -> str:
        """Such as `geometry/tilt_with_tag/2/even`."""
        return f"{self.family}/{self.kind}/{self.severity}/{self.base}"

    def make(self, place: Path) -> Expectation:
        """Write the folder; returns what a reader may do with it."""
        folder = Folder.of(self.base, np.random.default_rng(zlib.crc32(self.name.encode())))
        with anything_goes():
            expected = KINDS[self.family][self.kind](folder, self.severity)
        folder.write(place)
        return expected


def cases() -> Iterator[Case]:
    """All of them, in a fixed order."""
    for family, kinds in KINDS.items():
        for name, kind in kinds.items():
            for base in BASES if kind in _ON_ALL_BASES else ("even",):
                for severity in SEVERITIES:
                    yield Case(family=family, kind=name, severity=severity, base=base)
