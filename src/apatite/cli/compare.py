"""The verb `compare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, OutputPath


@dataclass(frozen=True, kw_only=True)
class Compare(CommonFlags):
    """Compare models on the same patients: differences with intervals, corrected tests, margins, strata.

    Each of MODELS is a model package, a run, an nnU-Net run, a folder of label maps named by case, or the cases.csv (or
    folder) of an earlier evaluate or compare. NAME=PATH names it; NAME=PATH,PATH,... are trainings of one model that
    differ in the seed. Every later model is compared with every earlier one.

    Example: apatite compare runs/scratch ours=runs/s0,runs/s1,runs/s2 -d prepared -o comparison
    """

    models: Positional[tuple[str, ...]]
    """PATH, NAME=PATH, or NAME=PATH,PATH,...; the first is the baseline."""
    out: OutputPath
    """Folder for compare.html, differences.csv, strata.csv, cases.csv, compare.json and table.tex."""
    data: Annotated[Path | None, arg(aliases=("-d",))] = None
    """Prepared folder to judge on; not needed where every MODEL is a table of outcomes."""
    split: Literal["development", "test"] = "test"
    """Which split to look at."""
    margin_dice: float = 0.02
    """Two models are as good where Dice differs by less than this; 0 for no margin."""
    margin_mm3: float = 10.0
    """The same for the volume error |ΔV| in mm³; 0 for no margin."""
    sizes: tuple[float, float] = (10.0, 100.0)
    """Cut-points in mm³ between small, medium and large reference volumes."""
    resamples: int = 10_000
    """Bootstrap resamples of patients."""
    interval: Literal["bca", "percentile"] = "bca"
    """Kind of bootstrap interval."""

    def run(self) -> Outcome:
        """Judge or read everybody, compare, write."""
        from apatite.study.compare.config import CompareConfig
        from apatite.study.compare.run import compare_models
        from apatite.study.intervals import IntervalConfig

        margins = {"dice": self.margin_dice, "volume_error_mm3": self.margin_mm3}
        config = CompareConfig(
            intervals=IntervalConfig(resamples=self.resamples, method=self.interval),
            margins={name: margin for name, margin in margins.items() if margin != 0},
            size_cuts_mm3=self.sizes,
        )
        made = compare_models(self.models, self.out, self.data, self.split, config=config, watch=bar)
        return Outcome(values=made.values, lines=[*map(terminal_table, made.tables), f"report: {made.report}"])
