"""What a finished row leaves: one JSON file with everything that the table is computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_json
from apatite.study.outcomes import CaseOutcome
from fewshot.folders import read_json
from machine import describe_machine, versions_of

PACKAGES = ("apatite", "torch", "monai", "numpy")
COUNTS = ("case_id", "patient_id", "label", "true_positive", "false_positive", "false_negative")
"""What is kept of an outcome; Dice follows from it."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished row.

    Attributes:
        row: Its name.
        settings: Kind, seed, labels, variant.
        config: Every setting of the run.
        steps: Optimiser steps.
        training_s: Wall seconds of training over all pieces; ours with opening the data.
        evaluation_s: Wall seconds of predicting the development cases.
        labelled: The cases whose labels were used.
        num_annotated: In how many of them each organ was looked for.
        outcomes: One per development case and annotated organ.
        facts: Anything else, such as the health panel of a pre-training.
        about: Date, machine and versions of packages; added when the row is committed.
    """

    row: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    steps: int
    training_s: float
    evaluation_s: float = 0.0
    labelled: Sequence[str] = ()
    num_annotated: Mapping[str, int] = field(default_factory=dict)
    outcomes: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def write_result(path: Path, result: Result) -> None:
    """Commit a row, with the date, the machine and the versions."""
    about = {"date": date.today().isoformat(), "machine": describe_machine(), "packages": versions_of(PACKAGES)}
    commit_json(path, asdict(result) | {"about": about})


def read_result(path: Path) -> Result:
    """A committed row."""
    values = read_json(path)
    return Result(**{name: values[name] for name in Result.__dataclass_fields__})


def read_results(folder: Path) -> dict[str, Result]:
    """All committed rows, by name."""
    found = [read_result(path) for path in sorted(folder.glob("*.json"))]
    return {result.row: result for result in found}


def quiet_s(result: Result, others: Mapping[str, Result]) -> float:
    """Seconds of a row at the pace of the fastest finished row that takes the same steps.

    A row that ran beside other work took longer than its steps need; what is given the same time must not gain by it.
    """
    same = [
        other
        for other in (result, *others.values())
        if (other.settings["variant"] == result.settings["variant"])
        and (other.settings["kind"] == "pretrain") == (result.settings["kind"] == "pretrain")
        and other.settings["kind"] != "peer"
    ]
    return result.steps * min(other.training_s / other.steps for other in same)


def kept(outcomes: Sequence[CaseOutcome]) -> list[dict[str, Any]]:
    """Outcomes as plain values, with Dice for a reader of the file (none where the reference is empty)."""
    return [
        {name: getattr(outcome, name) for name in COUNTS}
        | {"dice": round(outcome.overlap.dice, 4) if outcome.is_positive else None}
        for outcome in outcomes
    ]
