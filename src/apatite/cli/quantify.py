"""The verb `quantify`: from a folder of DICOM to cubic millimetres of calcium on either side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, ModelPath, OutputPath
from apatite.core.errors import EXIT_OK, EXIT_PARTIAL


@dataclass(frozen=True, kw_only=True)
class Quantify(CommonFlags):
    """Measure arterial calcium in head CTs: find the artery's region, segment, measure on the original slices.

    Example: apatite quantify archive/ -m models/calibrated -o results --template scct.nii.gz
    """

    scan: Positional[Path]
    """A folder of DICOM files (any number of studies), a NIfTI head CT, or a manifest CSV."""
    model: ModelPath
    """Model package, or the fine-tuning run that holds one."""
    out: OutputPath
    """Folder for volumes.csv and cases/<case>/ with label, probability and case.json."""
    template: Annotated[tuple[Path, ...], arg(aliases=("-t",))] = ()
    """Head-CT templates in MNI space (.nii.gz); several are chosen by age. None: the package's own procedural head."""
    box: str = "ica"
    """The artery's box: ica, vertebral, basilar, mca_left or mca_right."""
    domain: Literal["", "real", "phantom"] = ""
    """What the scans are, where no manifest says; empty means real, except for DICOM that this package simulated."""
    phantom_model_on_real_scan: FlagCreatePairsOff[bool] = False
    """Run a model that learnt from phantoms on real scans; every result then says SIMULATION-TRAINED, NOT VALID."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""

    def run(self) -> Outcome:
        """Quantify scan after scan; a bad one is named and the rest goes on."""
        from apatite.segment.predict import open_predictor
        from apatite.segment.quantify import Quantifier, QuantifyConfig
        from apatite.segment.quantify_files import quantify_all
        from apatite.segment.quantify_inputs import inputs_of
        from apatite.segment.templates import templates_of

        config = QuantifyConfig(box=self.box, accepts_phantom_model=self.phantom_model_on_real_scan)
        quantifier = Quantifier(open_predictor(self.model, self.device), templates_of(self.template), config)
        manifest = inputs_of(self.scan, self.out, self.domain, bar)
        made = quantify_all(quantifier, manifest, self.out, bar)
        values = {"volumes": str(made.table), "rows": made.rows, "refused": len(made.refused)}
        return Outcome(
            values=values,
            lines=[*_lines(made.rows), f"volumes: {made.table}"],
            exit_code=EXIT_PARTIAL if made.refused else EXIT_OK,
        )


MOST_LINES = 20


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """One line per measured or refused input; what was set aside is counted."""
    from apatite.calibrate.bounds import limits_text
    from apatite.core.reasons import REASONS

    shown = [row for row in rows if row["verdict"] != "set aside"]
    lines = []
    for row in shown[:MOST_LINES]:
        if row["verdict"] == "refused":
            lines.append(f"refused {row['case_id']}: it {REASONS[row['code']][1]} [{row['code']}]")
            continue
        over = f"{row['banner']}: " if row["banner"] else ""
        group = f", burden group {row['burden_group']}" if row["burden_group"] != "" else ""
        group += f", possible groups {row['burden_groups']}" if row["burden_groups"] else ""
        flags = f" ({row['flags']})" if row["flags"] else ""
        sides = f"right {row['right_mm3']}, left {row['left_mm3']}"
        lines.append(f"{over}{row['case_id']}: {row['volume_mm3']} mm³{limits_text(row)} ({sides}){group}{flags}")
    if len(shown) > MOST_LINES:
        lines.append(f"... and {len(shown) - MOST_LINES} more")
    if len(rows) > len(shown):
        lines.append(f"set aside: {len(rows) - len(shown)} series, with the reason of each in volumes.csv")
    return lines
