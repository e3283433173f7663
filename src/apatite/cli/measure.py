"""The verb `measure`: volume, lesions, Agatston score of a scan with its label map, or of all cases of a manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, InputPath
from apatite.core.errors import EXIT_OK, EXIT_PARTIAL, ApatiteError, ConfigError

if TYPE_CHECKING:
    from apatite.calcium.cases import MeasureConfig
    from apatite.calcium.measurement import Measurement

SHOWN = 60
"""Rows of the table on the terminal."""


@dataclass(frozen=True, kw_only=True)
class Measure(CommonFlags):
    """Measure calcium on a scan's own slices: volume, lesions, Agatston score, per side and in total.

    Example: apatite measure -i scan.nii.gz --label label.nii.gz --right 1 --left 2 -o measured.json
    """

    input: InputPath
    """The scan, NIfTI in HU or DICOM; or a manifest CSV, whose labelled cases are all measured."""
    label: Path | None = None
    """Its label map on the same slices; of a manifest, the label column counts instead."""
    out: Annotated[Path | None, arg(aliases=("-o",))] = None
    """Table to write: .json with every digit, or .csv with three significant figures."""
    right: int | None = None
    """Label value of the patient's right side."""
    left: int | None = None
    """Label value of the patient's left side."""
    calcium: int | None = None
    """The one label value that is calcium on either side; not needed where the label map has one value only."""
    rule: Literal["paper", "agatston", "marked"] = "paper"
    """What counts: at least 130 HU without single voxels; 130 HU in islands of 1 mm²; or all that is marked."""
    kvp: float | None = None
    """Tube voltage of scans that do not state theirs; whether the Agatston score is a standard one depends on it."""

    def run(self) -> Outcome:
        """Measure one scan, or case after case; a bad case is named and the rest goes on."""
        from apatite.calcium.cases import MeasureConfig, measure_manifest, require_table, write_measurements
        from apatite.io.manifest import read_manifest

        config = MeasureConfig(right=self.right, left=self.left, calcium=self.calcium, rule=self.rule, kvp=self.kvp)
        if self.out is not None:
            require_table(self.out)
            if self.out.resolve() == self.input.resolve():
                raise ConfigError("the table would replace the manifest", fix="give another file with -o")
        failures: list[dict[str, Any]] = []
        if self.input.suffix == ".csv":
            if self.label is not None:
                raise ConfigError("a manifest names its own label maps", fix="leave --label out")
            made = measure_manifest(read_manifest(self.input), config, bar)
            measurements, failures = made.measurements, made.failures
        else:
            measurements = self._one(config)
        if self.out is not None:
            write_measurements(self.out, measurements)
        values = {
            "measurements": {case_id: measurement.to_dict() for case_id, measurement in measurements.items()},
            "failures": failures,
            "out": None if self.out is None else str(self.out),
        }
        lines = [*_lines(measurements), *(f"failed: {bad['where']}: {bad['what']} [{bad['code']}]" for bad in failures)]
        lines += [] if self.out is None else [f"wrote {self.out}"]
        return Outcome(values=values, lines=lines, exit_code=EXIT_PARTIAL if failures else EXIT_OK)

    def _one(self, config: "MeasureConfig") -> "dict[str, Measurement]":
        from apatite.calcium.cases import measure_label, read_measurable
        from apatite.io.layouts import case_id_of
        from apatite.io.nifti import read_label, stem

        if self.label is None:
            raise ConfigError("no label map is given", fix="name it with --label, or give a manifest CSV")
        case_id = case_id_of(stem(self.input.resolve()).removesuffix(".series.json"))
        scan, kvp = read_measurable(self.input, case_id)
        label = read_label(self.label, scan.stack, case_id)
        try:
            return {case_id: measure_label(scan, label, config, kvp)}
        except ApatiteError as error:
            error.where = error.where or case_id
            raise


def _lines(measurements: "dict[str, Measurement]") -> list[Any]:
    """The table, and how its numbers came about."""
    from apatite.calcium.cases import table_rows
    from apatite.calcium.rule import RULES
    from apatite.report.html import Table

    rows = table_rows(measurements)
    first = next(iter(measurements.values()))
    columns = {
        "case_id": "case",
        "side": "side",
        "volume_mm3": "mm³",
        "num_lesions": "foci",
        "largest_lesion_mm3": "largest",
        "max_hu": "max",
        "mean_hu": "mean",
        "partial_volume_mm3": "partial",
        "agatston": "Agatston",
    }
    table = Table(
        columns=tuple(columns.values()),
        rows=tuple(tuple(row[key] for key in columns) for row in rows[:SHOWN]),
        caption=f"counted: {RULES[first.rule].what}; largest and partial in mm³, max and mean in HU",
    )
    lines: list[Any] = [terminal_table(table)]
    lines += [f"... and {len(rows) - SHOWN} more rows"] if len(rows) > SHOWN else []
    odd = [case_id for case_id, measurement in measurements.items() if not measurement.agatston_standard]
    if odd:
        lines.append(
            f"{len(odd)} of {len(measurements)} Agatston scores are not standard: slices not 2.5 to 3.5 mm apart, or "
            "not known to be of 120 kVp"
        )
    lost_mm3 = sum(measurement.no_side_mm3 for measurement in measurements.values())
    lines += [f"{lost_mm3:.3g} mm³ belong to no side; they are in the total"] if lost_mm3 else []
    return lines
