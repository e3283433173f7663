"""The verb `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, OutputPath, PreparedPath


@dataclass(frozen=True, kw_only=True)
class Evaluate(CommonFlags):
    """Evaluate models on a labelled split, on the original slices, with intervals by patient.

    Every look at the test split is written down in the output folder and beside each model.

    Example: apatite evaluate -m runs/scratch/model -m models/calibrated -d prepared -o evaluation
    """

    model: Annotated[UseAppendAction[tuple[Path, ...]], arg(aliases=("-m",))]
    """Model package or fine-tuning run; repeat for a paired comparison. A calibrated one is read at 0.5 and at its
    thresholds."""
    data: PreparedPath
    """Prepared folder; its original scans and labels must still be there."""
    out: OutputPath
    """Folder for cases.csv, summary.json and report.html."""
    split: Literal["development", "test"] = "test"
    """Which split to look at."""
    resamples: int = 1000
    """Bootstrap resamples of patients."""
    interval: Literal["bca", "percentile"] = "bca"
    """Kind of bootstrap interval; percentile with 1,000 resamples is the paper's."""

    def run(self) -> Outcome:
        """Predict, count, write."""
        from apatite.io.store import Prepared
        from apatite.study.intervals import IntervalConfig
        from apatite.study.run import evaluate_models

        intervals = IntervalConfig(resamples=self.resamples, method=self.interval)
        made = evaluate_models(
            self.model, Prepared.open(self.data), self.out, self.split, intervals=intervals, watch=bar
        )
        return Outcome(values=made.values, lines=[*map(terminal_table, made.tables), f"report: {made.report}"])
