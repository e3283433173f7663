"""The verb `draw`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags

What = Literal[
    "all", "splits", "main", "decoders", "agreement", "patch-sizes", "strata", "upsampling", "embedding-sizes",
    "burden", "labels", "curves", "costs", "topology", "pretraining", "pretexts", "few-labels", "convergence",
    "ablations", "reuse", "evidence",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draw(CommonFlags):
    """Draw a table or a figure of the papers from the records of sweeps, or judge their claims.

    What no run fills is shown as not run. `evidence` can also rewrite its part of a page.

    Example: apatite draw main -d sweep -o drawn
    """

    what: Positional[What]
    """What to draw, or `all`."""
    data: Annotated[UseAppendAction[tuple[Path, ...]], arg(aliases=("-d",))]
    """Folder of a sweep, or of several; repeat to draw from more."""
    out: Annotated[Path | None, arg(aliases=("-o",))] = None
    """Folder for the page and for each table (CSV, LaTeX) and picture (SVG); files of the same names are replaced."""
    page: Path | None = None
    """With evidence: a Markdown page whose marked part is written anew."""
    split: Literal["test", "development"] = "test"
    """Which split's outcomes to draw."""
    reading: Literal["ungated", "gated"] = "ungated"
    """Predictions as they are, or only where the scan has at least 130 HU."""
    label: int = 1
    """Label value to draw; `topology`, `pretexts`, `few-labels` and `ablations` take the mean over all labels."""
    resamples: int = 1000
    """Bootstrap resamples of patients."""
    interval: Literal["bca", "percentile"] = "bca"
    """Kind of bootstrap interval; percentile with 1,000 resamples is the paper's."""

    def run(self) -> Outcome:
        """Read the records, draw, write."""
        from apatite.calcium.rule import CALCIUM_HU
        from apatite.study.intervals import IntervalConfig
        from apatite.study.paper.draw import draw_records
        from apatite.study.paper.results import View

        view = View(
            split=self.split,
            label=self.label,
            hu_gate=CALCIUM_HU if self.reading == "gated" else None,
            intervals=IntervalConfig(resamples=self.resamples, method=self.interval),
        )
        made = draw_records(self.what, self.data, view, out=self.out, page=self.page, watch=bar)
        values = {
            "what": self.what, "records": made.num_records, "studies": list(made.studies),
            "files": [str(path) for path in made.files], "verdicts": dict(made.verdicts),
        }  # fmt: skip
        verdicts = [f"{claim}: {word}" for claim, word in made.verdicts.items()]
        return Outcome(values=values, lines=[*verdicts, *map(str, made.files[:1]), f"{len(made.files)} files"])
