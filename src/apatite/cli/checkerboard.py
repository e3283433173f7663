"""The verb `checkerboard`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, OutputPath, PreparedPath


@dataclass(frozen=True, kw_only=True)
class Checkerboard(CommonFlags):
    """Look at the maps of models' decoders, and measure the grid that upsampling leaves in them.

    Example: apatite checkerboard -m runs/upscale -m runs/unetr -d prepared -o checkerboard
    """

    model: Annotated[UseAppendAction[tuple[Path, ...]], arg(aliases=("-m",))]
    """Model package or fine-tuning run; repeat to see several side by side."""
    data: PreparedPath
    """Prepared folder with the grid that the models were made for."""
    out: OutputPath
    """Folder for checkerboard.json and report.html."""
    case: str | None = None
    """Which case; the first labelled one of development where none is named. Never one of the test split."""

    def run(self) -> Outcome:
        """Look, measure, write."""
        from apatite.io.store import Prepared
        from apatite.study.checkerboard import draw_checkerboard

        made = draw_checkerboard(self.model, Prepared.open(self.data), self.out, self.case, bar)
        values = {"report": str(made.report), **made.values}
        return Outcome(values=values, lines=[*map(terminal_table, made.tables), f"report: {made.report}"])
