"""Sweeps whose every number is known: records made by hand, with the files that a real sweep leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from apatite.core.rng import generator
from apatite.study.intervals import IntervalConfig
from apatite.study.outcomes import CaseOutcome
from apatite.study.paper.results import Results, View, gather, studies
from apatite.study.sweep.record import Record, write_record
from apatite.study.sweep.rows import AXES, NNUNET, Point, patch_edges

QUICK = View(intervals=IntervalConfig(resamples=200))
NUM_POSITIVE, NUM_FREE = 16, 1
SPACING = {"small": (0.875, 0.875, 2.0), "paper": (0.44, 0.44, 1.0)}
THICKNESS_MM = (1.0, 2.5, 5.0, 8.0, 3.5)

Dice = Callable[[int], float]
"""Case number → Dice."""


def reference_voxels(number: int) -> int:
    """All different, smallest first: 40, 53, 66, …"""
    return 40 + 13 * number


def outcome(number: int, dice: float, predicted_share: float = 1.0) -> CaseOutcome:
    """One case with calcium, with a Dice as near as whole voxels allow; two cases share a patient in every sixth."""
    reference = reference_voxels(number)
    predicted = max(1, round(reference * predicted_share))
    both = min(reference, predicted, round(dice * (reference + predicted) / 2))
    return CaseOutcome(
        case_id=f"case-{number:02d}",
        patient_id=f"patient-{number - (number % 6 == 5):02d}",
        label=1,
        true_positive=both,
        false_positive=predicted - both,
        false_negative=reference - both,
        true_negative=10_000,
        predicted_mm3=float(predicted),
        reference_mm3=float(reference),
        lesions_reference=2,
        lesions_found=1,
        lesions_predicted=2,
        lesions_true=1,
        slice_thickness_mm=THICKNESS_MM[number % len(THICKNESS_MM)],
        kernel_class="soft",
    )


def empty(number: int) -> CaseOutcome:
    """A case without calcium, in which a little was found."""
    return CaseOutcome(
        case_id=f"case-{number:02d}", patient_id=f"patient-{number:02d}", label=1, true_positive=0, false_positive=2,
        false_negative=0, true_negative=10_000, predicted_mm3=2.0, reference_mm3=0.0, lesions_reference=0,
        lesions_found=0, lesions_predicted=1, lesions_true=0, slice_thickness_mm=2.5,
    )  # fmt: skip


def noisy(level: float, *key: int, spread: float = 0.03) -> Dice:
    """Dice that differs between cases, the same for the same key."""
    shifts = generator(7, "noise", *key).normal(0, spread, 64)
    return lambda number: float(np.clip(level + shifts[number], 0.05, 0.98))


def _edges_mm(patch: Any, spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    depth, height, width = patch_edges(patch)
    i, j, k = spacing
    return round(width * i, 3), round(height * j, 3), round(depth * k, 3)


@dataclass
class Sweep:
    """A sweep that rows are added to; they stay in memory, which is faster, or are written as a real sweep does."""

    folder: Path
    is_stored: bool = False
    made: list[tuple[Record, dict[str, list[CaseOutcome]]]] = field(default_factory=list)
    tier: str = "small"
    truth: str = "truth"
    defaults: dict[str, Any] = field(
        default_factory=lambda: {
            "arm": "vit", "network": "vit", "model": "vitiac-xs", "patch": 4, "decoder": "mae", "upsampling": "nearest",
            "init": "mae", "take": "encoder", "labels": "all", "draw": 0, "seed": 0, "reader": "perfect",
        }
    )  # fmt: skip

    def add(
        self,
        dice: Dice | float,
        *,
        calibrated: Dice | float | None = None,
        share: float = 1.0,
        flat: bool = True,
        steps: int = 600,
        tag: str = "",
        cases: int = NUM_POSITIVE,
        changes: Mapping[str, Any] | None = None,
        **axes: Any,
    ) -> Record:
        """One finished row. Without noise every case has the Dice asked for, up to whole voxels."""
        point = Point(values=dict.fromkeys(AXES) | self.defaults | axes, tag=tag)
        values = point.axes
        kind = "nnunet" if values["arm"] == NNUNET else "vit"
        readings = {"raw": dice, "calibrated": dice if calibrated is None else calibrated}
        rows = {
            title: [
                *(outcome(n, value if isinstance(value, float) else value(n), share) for n in range(cases)),
                *(empty(n) for n in range(cases, cases + NUM_FREE)),
            ]
            for title, value in readings.items()
        }
        spacing = SPACING.get(self.tier, (1.0, 1.0, 1.0))
        record = Record(
            name=point.named(),
            kind=kind,
            tier=self.tier,
            axes=values,
            steps=steps,
            seconds={"finetune": 100.0, "calibrate": 3.0, "evaluate": 4.0}
            | ({"pretrain": 50.0} if values["init"] == "mae" else {}),
            num_parameters=1234567,
            curve=((200, 0.3), (400, 0.5), (500, 0.51), (600, 0.513 if flat else 0.55)),
            is_flat=flat,
            splits={
                "finetune": {"series": 40, "patients": 38, "positive": 35},
                "test": {"series": cases + NUM_FREE, "patients": 21, "positive": cases},
            },
            domains=["phantom"],
            patch_mm=None if values["patch"] is None else _edges_mm(values["patch"], spacing),
            spacing_mm=spacing,
            crop=(16, 48, 48),
            digests={"data": "d" * 64, "truth": self.truth},
            versions={"apatite": "0.1.0"},
            machine={"cpu": "a processor", "threads": 2},
            command="apatite sweep small",
        )
        record = replace(record, **(changes or {}))
        # A row that is made again replaces itself, as its file does.
        self.made = [(old, its) for old, its in self.made if (old.name, old.tier) != (record.name, record.tier)]
        self.made.append((record, rows))
        if self.is_stored:
            write_record(self.folder, record, {"test": rows})
        return record

    def results(self, view: View = QUICK) -> Results:
        """The study it makes, when it makes one."""
        (found,) = self.studies(view)
        return found

    def studies(self, view: View = QUICK) -> list[Results]:
        if self.is_stored:
            return studies(gather([self.folder]), view)
        found = studies([record for record, _ in self.made], view)
        for results in found:
            for record, rows in self.made:
                results._found[record.name, None] = rows
        return found

    def beside(self, name: str) -> "Sweep":
        """An empty sweep beside this one."""
        folder = self.folder.with_name(name)
        (folder / "rows").mkdir(parents=True)
        return Sweep(folder=folder, is_stored=True)

    noisy: ClassVar = staticmethod(noisy)
    outcome: ClassVar = staticmethod(outcome)
    quick: ClassVar[View] = QUICK


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "sweep" / "rows").mkdir(parents=True)
    return Sweep(folder=tmp_path / "sweep")


@pytest.fixture
def stored(sweep: Sweep) -> Sweep:
    """The same on disk."""
    sweep.is_stored = True
    return sweep
