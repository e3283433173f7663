"""The verb `robustness`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, UseAppendAction, arg

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, OutputPath, PreparedPath
from apatite.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Robustness(CommonFlags):
    """Measure how models hold as scans get worse: thicker slices, noise, other kernels, offset, a region off its place.

    Every labelled case is looked at as it is and at every level. Run the same command again to go on after a stop.

    Example: apatite robustness -m models/calibrated -d prepared -o robustness --write-model models/validated
    """

    model: Annotated[UseAppendAction[tuple[Path, ...]], arg(aliases=("-m",))]
    """Model package or fine-tuning run; repeat to see models side by side. A calibrated one is read at 0.5 and at its
    thresholds."""
    data: PreparedPath
    """Prepared folder; its original scans and labels must still be there."""
    out: OutputPath
    """Folder for rows/, rows.csv, summary.json and report.html."""
    split: Literal["development", "test"] = "test"
    """Which split to look at."""
    by: tuple[str, ...] = ()
    """Which ways, each perhaps with its levels: thickness noise=5,10 blur sharpen offset pose. All when left out."""
    rescan: FlagCreatePairsOff[bool] = False
    """Phantoms only: scan the same patients again with one thing changed (also tilt, turn, vendor)."""
    reading: Literal["gated", "ungated"] = "gated"
    """Whether calcium counts from 130 HU on only, or all that is predicted."""
    thin: float = 1.5
    """Slices of more than so many mm take no part in the curve over thickness."""
    dice_drop: float = 0.05
    """A model holds while the interval of its drop in Dice ends at or below this."""
    volume_bias: float = 0.25
    """A model holds while its volume is within this share of the reference on the undegraded scan."""
    least_positive: int = 10
    """Fewer cases with the label than this show nothing."""
    resamples: int = 1000
    """Bootstrap resamples of patients."""
    seed: int = 0
    """Of the noise and of the directions in which the region is moved."""
    write_model: Path | None = None
    """Also write a copy of the one model whose card states the ranges; must not exist."""

    def run(self) -> Outcome:
        """Degrade, predict, count, write."""
        from apatite.io.store import Prepared
        from apatite.study.intervals import IntervalConfig
        from apatite.study.robustness.config import Criteria, RobustnessConfig
        from apatite.study.robustness.run import robustness
        from apatite.study.robustness.sections import ranges_table
        from apatite.study.robustness.write import require_one, summary_json, write_robustness, write_validated

        if self.write_model is not None:
            require_one(len(self.model))
            # Found now, not after every case was predicted.
            if self.write_model.exists():
                raise DataError("the folder exists already", where=str(self.write_model), fix="name a new one")
        config = RobustnessConfig(
            by=self.by,
            rescan=self.rescan,
            thin_mm=self.thin,
            reading=self.reading,
            criteria=Criteria(
                dice_drop=self.dice_drop, volume_bias=self.volume_bias, least_positive=self.least_positive
            ),
            intervals=IntervalConfig(resamples=self.resamples),
            seed=self.seed,
        )
        found = robustness(self.model, Prepared.open(self.data), self.out, self.split, config=config, watch=bar)
        report = write_robustness(found, self.out)
        lines = [*(terminal_table(ranges_table(found, label)) for label in found.labels), f"report: {report}"]
        if self.write_model is not None:
            write_validated(found, self.model[0], self.write_model)
            lines.append(f"model with its validated range: {self.write_model}")
        return Outcome(values={"report": str(report), **summary_json(found)}, lines=lines)
