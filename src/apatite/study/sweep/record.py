"""What a finished row leaves: one JSON file and one table of cases, from which every table and figure can be drawn.

    rows/<name>.json     settings, seconds, curve, digests, main estimates
    rows/<name>.csv.gz   every outcome of every case: raw and calibrated, development and test kept apart

Dates are left out: the same row made again differs in seconds alone.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from apatite.core.commit import commit_bytes, commit_json
from apatite.core.config import load
from apatite.core.errors import DataError
from apatite.study.nnunet.lengths import LEARNT_DICE
from apatite.study.outcome_table import outcomes_csv, read_outcomes
from apatite.study.outcomes import CaseOutcome

ROWS = "rows"
"""Folder of the records inside a sweep's folder."""
RAW, CALIBRATED = "raw", "calibrated"
"""The two readings of a model: at 0.5, and at the thresholds chosen on development."""
LATER_AXES = {"network": "vit"}
"""Axes that came after rows had been done without them, and where those stand."""
SPLITS: tuple[Literal["development", "test"], ...] = ("development", "test")
FLAT_SHARE, FLAT_DICE = 0.2, 0.01
"""A curve is flat when it moves by less than this in the last part of its steps."""

Kind = Literal["pretrain", "vit", "nnunet"]
Outcomes = Mapping[str, Mapping[str, Sequence[CaseOutcome]]]
"""By split, then `raw` and, where there is a calibration, `calibrated`."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished row.

    Attributes:
        name: Of the row, and of its files.
        kind: `pretrain`, `vit` or `nnunet`.
        tier: Size of the regions: `small`, `paper`, or `own` data.
        axes: Every axis by its name; None where an axis means nothing for this row. `labels` is a number or `all`,
            `patch` an edge in voxels or, with unequal edges, `2x4x4` (depth, height, width).
        steps: Optimiser steps.
        seconds: Wall seconds of training over all pieces (`pretrain`, `finetune`), and of `calibrate` and `evaluate`.
            A row that began from an encoder carries the seconds of that encoder's row under `pretrain`.
        num_parameters: Of the trained network.
        step_s: Of pre-training: seconds of a step, without the look after the last one; 0 for all else.
        curve: Step, and Dice on development after it; empty for pre-training.
        is_flat: Whether the curve moved by less than 0.01 in the last 20 % of the steps, at 0.1 or more; False where it
            was looked at fewer than three times there.
        calibration: As in a model card; None where there is none.
        splits: By split: `series`, `patients`, `positive` (series with the label). `finetune` counts the labelled
            cases that were learned from, `pretrain` the unlabelled.
        domains: Where the judged cases come from, `phantom` or `real`; of pre-training, those learned from.
        patch_mm: Edges of a patch along i (width), j (height), k (depth); None for nnU-Net.
        spacing_mm: Of the network's grid, along i, j, k.
        crop: Voxels of the network's input along depth, height, width.
        health: Of pre-training: numbers of the last look, as in the journal: errors of reconstruction and position.
        summary: By split, then `raw` or `calibrated`: a list of label, reading, counts and main estimates.
        label_means: Likewise: a list of reading, labels and estimates, each the mean over labels of a label's mean over
            the cases in which it was annotated; empty with one label.
        label_names: Name by label value.
        config: Every setting of the run.
        digests: Of `data`, `truth` (what it was judged by), `model`, `encoder`, `settings`.
        versions: Of packages.
        machine: Processor, threads, torch.
        command: How to run the row again.
        elapsed_s: Wall seconds of the last piece, from its start to its record.
        source: The folder that the record was read from; not written.
    """

    name: str
    kind: Kind
    tier: str
    axes: dict[str, str | int | None]
    steps: int
    seconds: dict[str, float]
    num_parameters: int
    step_s: float = 0.0
    curve: tuple[tuple[int, float], ...] = ()
    is_flat: bool = False
    calibration: dict[str, Any] | None = None
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    domains: list[str] = field(default_factory=list)
    patch_mm: tuple[float, float, float] | None = None
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: tuple[int, int, int] = (1, 1, 1)
    health: dict[str, float] = field(default_factory=dict)
    summary: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    label_means: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    label_names: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    elapsed_s: float = 0.0
    source: Path | None = None


def is_flat(curve: Sequence[tuple[int, float]], steps: int) -> bool:
    """Whether a curve moves by less than `FLAT_DICE` over the last `FLAT_SHARE` of the steps.

    The look at or just before the beginning of that part counts too. Fewer than three looks show nothing: not flat.
    Nor is a curve below `LEARNT_DICE`: a network that has not begun to learn has not learnt all it can.
    """
    start = (1 - FLAT_SHARE) * steps
    before = [value for step, value in curve if step <= start][-1:]
    late = before + [value for step, value in curve if step > start]
    return len(late) >= 3 and min(late) >= LEARNT_DICE and max(late) - min(late) < FLAT_DICE


def json_path(folder: Path, name: str) -> Path:
    """Where the record of a row lies in a sweep's folder."""
    return folder / ROWS / f"{name}.json"


def table_path(folder: Path, name: str) -> Path:
    """Where the outcomes of a row lie in a sweep's folder."""
    return folder / ROWS / f"{name}.csv.gz"


def write_record(folder: Path, record: Record, outcomes: Outcomes | None = None) -> None:
    """Commit the outcomes, then the record: a row is finished once its JSON file is there.

    Args:
        folder: Of the sweep.
        record: The row.
        outcomes: Of its cases; none for pre-training.
    """
    if outcomes is not None:
        by_title = {f"{split}/{title}": rows for split, titles in outcomes.items() for title, rows in titles.items()}
        # Without a time of day in its header the same table is the same bytes.
        commit_bytes(table_path(folder, record.name), gzip.compress(outcomes_csv(by_title).encode(), mtime=0))
    values = asdict(record)
    del values["source"]
    commit_json(json_path(folder, record.name), values)


def read_record(folder: Path, name: str) -> Record:
    """One record.

    Raises:
        DataError: it is missing, or is no record.
    """
    path = json_path(folder, name)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("cannot be read", where=str(path), fix="run that row of the sweep again") from error
    if not isinstance(values, dict):
        raise DataError("is no record of a row", where=str(path), fix="run that row of the sweep again")
    record = load(Record, values, str(path))
    return replace(record, source=folder, axes=with_later_axes(record.axes, record.kind))


def with_later_axes(axes: Mapping[str, str | int | None], kind: Kind) -> dict[str, str | int | None]:
    """All axes of a row that may have been done before some of them were known."""
    later = LATER_AXES if kind == "vit" else dict.fromkeys(LATER_AXES)
    return {**later, **axes}


def read_records(folder: Path) -> list[Record]:
    """All records of a sweep's folder (or of its folder `rows`), by name; empty where there is none.

    Raises:
        DataError, ConfigError: a file is no record.
    """
    folder = folder.parent if folder.name == ROWS else folder
    return [read_record(folder, path.stem) for path in sorted((folder / ROWS).glob("*.json"))]


def outcomes_of(record: Record, split: Literal["development", "test"]) -> dict[str, list[CaseOutcome]]:
    """The outcomes of a row on a split under `raw` and, where it was calibrated, `calibrated`.

    Returns:
        Gated and ungated readings together, as `CaseOutcome.hu_gate` tells; empty for pre-training.

    Raises:
        DataError: the table cannot be read, or the record was not read from a folder.
    """
    if record.kind == "pretrain":
        return {}
    if record.source is None:
        raise DataError("was not read from a folder", where=record.name, fix="use read_records")
    found = read_outcomes(table_path(record.source, record.name))
    prefix = f"{split}/"
    return {title.removeprefix(prefix): rows for title, rows in found.items() if title.startswith(prefix)}
