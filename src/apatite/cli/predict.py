"""The verb `predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, InputPath, ModelPath, OutputPath
from apatite.core.errors import EXIT_OK, EXIT_PARTIAL


@dataclass(frozen=True, kw_only=True)
class Predict(CommonFlags):
    """Segment NIfTI scans: probability, label and volume on each scan's own grid.

    Example: apatite predict -m models/calibrated -i scan.nii.gz -o predictions
    """

    model: ModelPath
    """Model package, or the fine-tuning run that holds one."""
    input: InputPath
    """A NIfTI file, a folder of them, or a manifest CSV."""
    out: OutputPath
    """Folder for <case>_label.nii.gz, <case>_prob.nii.gz and volumes.csv."""
    centre: tuple[float, float, float] | None = None
    """Middle of the region in RAS mm, where it is known and not in the manifest."""
    reading: Literal["gated", "ungated"] = "gated"
    """For calcium: count only where the slice has at least 130 HU, or count all."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""

    def run(self) -> Outcome:
        """Predict case after case; a bad one is named and the rest goes on."""
        from apatite.calibrate.bounds import limits_text
        from apatite.segment.predict import open_predictor
        from apatite.segment.volumes import predict_all, scans_of

        manifest = scans_of(Path(self.input), self.centre)
        made = predict_all(open_predictor(self.model, self.device), manifest, self.out, self.reading, bar)
        lines = [
            f"{row['case_id']}: {row['label_name']} {row['volume_mm3']} mm³{limits_text(row)}" for row in made.rows[:20]
        ]
        lines += [f"... and {len(made.rows) - 20} more rows"] if len(made.rows) > 20 else []
        lines += [f"failed: {failure['where']}: {failure['what']} [{failure['code']}]" for failure in made.failures]
        values = {"volumes": str(made.table), "rows": made.rows, "failures": made.failures}
        return Outcome(
            values=values,
            lines=[*lines, f"volumes: {made.table}"],
            exit_code=EXIT_PARTIAL if made.failures else EXIT_OK,
        )
