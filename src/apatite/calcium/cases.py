"""From a scan and its label map to a measurement, for one case or for all of a manifest.

A label value is a side, or all calcium. A value that nobody named is an error, never left out: it may be the other
side.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from apatite.calcium.measurement import LEFT, RIGHT, Calcium, Measurement, measure
from apatite.core.commit import commit_json, commit_text
from apatite.core.errors import ApatiteError, ConfigError, DataError, StorageError
from apatite.core.scan import Scan
from apatite.core.watch import Watch, unwatched
from apatite.io.images import is_nifti, read_dicom
from apatite.io.manifest import Manifest
from apatite.io.nifti import read_label, read_scan

COLUMNS: tuple[str, ...] = (
    "case_id",
    "side",
    *(field.name for field in fields(Calcium)),
    "rule",
    "agatston_standard",
    "kvp",
)
"""Of the table: one row per case and side."""
FIGURES = 3
"""Significant figures in the table: the measurement is no finer, whatever the arithmetic says."""

Label = UInt8[np.ndarray, "slices rows columns"]


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How label values and pixels are read.

    Attributes:
        right, left: Label values of the patient's sides; both or none.
        calcium: The one label value that is calcium, on whatever side; other values are left out. `None` with
            `right` and `left`, or where a label map has one value only.
        rule: Name in `rule.RULES`.
        kvp: Tube voltage of scans that do not state theirs; `None` where it is unknown.
    """

    right: int | None = None
    left: int | None = None
    calcium: int | None = None
    rule: str = "paper"
    kvp: float | None = None

    def __post_init__(self) -> None:
        if (self.right is None) != (self.left is None) or (self.right is not None and self.right == self.left):
            raise ConfigError("right and left are not two label values", fix="give both, or none")
        if self.right is not None and self.calcium is not None:
            raise ConfigError("sides and one value for all calcium exclude each other", fix="give one of them")
        if any(value is not None and value < 1 for value in (self.right, self.left, self.calcium)):
            raise ConfigError("a label value is below 1", fix="0 is no label")


@dataclass(frozen=True, kw_only=True)
class MeasuredCases:
    """What became of the cases.

    Attributes:
        measurements: By case_id, in the order of the manifest.
        failures: Cases that could not be measured, as plain values.
    """

    measurements: dict[str, Measurement]
    failures: list[dict[str, Any]]


def read_measurable(path: Path, case_id: str = "") -> tuple[Scan, float | None]:
    """Read a scan as `io.images.read_image` does, and the tube voltage that all of its DICOM images state.

    Raises:
        DataError: as `io.images.read_image`.
    """
    if is_nifti(path):
        return read_scan(path, case_id), None
    reading = read_dicom(path, case_id)
    stated = {header.kvp for header in reading.series.headers}
    return reading.scan, stated.pop() if len(stated) == 1 else None


def measure_label(scan: Scan, label: Label, config: MeasureConfig, kvp: float | None = None) -> Measurement:
    """Measure a scan with its label map.

    Args:
        scan: Original slices.
        label: On those slices.
        config: What the label values mean, and what counts.
        kvp: Tube voltage that the scan states.

    Raises:
        DataError: the label map holds a value that nobody named (`BAD_LABEL`), or as `measurement.measure`.
    """
    is_calcium, sides = _read_values(label, config)
    return measure(scan, is_calcium, sides, kvp=config.kvp if kvp is None else kvp, rule=config.rule)


def measure_manifest(manifest: Manifest, config: MeasureConfig, watch: Watch = unwatched) -> MeasuredCases:
    """Measure every case that has a label map and may be used; a bad one is named and the rest goes on.

    Raises:
        DataError: no case has a label map (`NO_CASES`), or not one could be measured.
    """
    cases = [case for case in manifest.cases if case.label and not case.verdict]
    if not cases:
        raise DataError(
            "no case has a label map", where=str(manifest.root), fix="fill in the label column", code="NO_CASES"
        )
    done, failures = {}, []
    for case in watch(cases, "measuring", len(cases)):
        try:
            scan, stated_kvp = read_measurable(manifest.image_path(case), case.case_id)
            label = read_label(manifest.root / case.label, scan.stack, case.case_id)
            done[case.case_id] = measure_label(scan, label, config, stated_kvp if case.kvp is None else case.kvp)
        except StorageError:
            raise
        except ApatiteError as error:
            failures.append({**error.to_dict(), "where": error.where or case.case_id})
    if not done:
        first = failures[0]
        raise DataError(
            f"no case could be measured; the first: {first['what']}",
            where=first["where"],
            fix=first["fix"],
            code=first["code"],
        )
    return MeasuredCases(measurements=done, failures=failures)


def table_rows(measurements: dict[str, Measurement]) -> list[dict[str, Any]]:
    """One row per case and side, keys as `COLUMNS`; measured numbers not rounded."""
    rows = []
    for case_id, made in measurements.items():
        how = {"rule": made.rule, "agatston_standard": made.agatston_standard, "kvp": made.kvp}
        for side, calcium in (("right", made.right), ("left", made.left), ("total", made.total)):
            if calcium is not None:
                rows.append({"case_id": case_id, "side": side, **asdict(calcium), **how})
    return rows


def write_measurements(path: Path, measurements: dict[str, Measurement]) -> None:
    """Write measurements as `.json` (every digit) or `.csv` (three significant figures, one row per side).

    Raises:
        ConfigError: another ending.
        StorageError: as `core.commit.committed`.
    """
    require_table(path)
    if path.suffix == ".json":
        commit_json(path, {case_id: made.to_dict() for case_id, made in measurements.items()})
        return
    stream = io.StringIO()
    table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _rounded(value) for key, value in row.items()} for row in table_rows(measurements))
    commit_text(path, stream.getvalue())


def require_table(path: Path) -> None:
    """Refuse a file that is neither JSON nor CSV, before anything was measured.

    Raises:
        ConfigError: it ends otherwise.
    """
    if path.suffix not in (".json", ".csv"):
        raise ConfigError(f"{path.name!r} ends in neither .json nor .csv", fix="name the table so")


def _read_values(label: Label, config: MeasureConfig) -> tuple[Bool[np.ndarray, "slices rows columns"], Label | None]:
    """What is calcium, and on which side."""
    if config.calcium is not None:
        return label == config.calcium, None
    values = [int(value) for value in np.unique(label) if value]
    if config.right is None or config.left is None:
        if len(values) > 1:
            raise _unnamed(values, "say which are --right and --left, or which one is --calcium")
        return label > 0, None
    if set(values) - {config.right, config.left}:
        raise _unnamed(sorted(set(values) - {config.right, config.left}), "correct --right and --left")
    sides = np.zeros(label.shape, dtype=np.uint8)
    sides[label == config.right], sides[label == config.left] = RIGHT, LEFT
    return label > 0, sides


def _unnamed(values: Sequence[int], fix: str) -> DataError:
    shown = ", ".join(str(value) for value in values[:8])
    return DataError(f"holds the label values {shown}, whose meaning was not said", fix=fix, code="BAD_LABEL")


def _rounded(value: Any) -> Any:
    return float(f"{value:.{FIGURES}g}") if isinstance(value, float) else value
