"""The verb `sweep`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, OutputPath
from apatite.core.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from apatite.study.sweep.grid import Grid
    from apatite.study.sweep.state import SweepState


@dataclass(frozen=True, kw_only=True)
class Sweep(CommonFlags):
    """Train, calibrate and judge every row of a grid of recipes; each leaves one record to draw tables from.

    Rows are done one after another in as many calls as it takes: the same command goes on where it was stopped, and
    ends with exit code 75 until nothing is left to do. Grids of the package: small-decoders, small-labels,
    small-upsampling, small-seeds, paper; topo-small, topo-consistency, topo-beyond, topo-phantom, topo-paper;
    smit-small, smit-terms, smit-masks, smit-tap, smit-teacher, smit-labels, smit-speed, smit-reuse, smit-beyond,
    smit-paper.

    Example: apatite sweep small-decoders -d study/prepared -o sweep --minutes 40
    """

    grid: Positional[str]
    """A grid of the package by its name, or a .yaml file."""
    settings: Positional[tuple[str, ...]] = ()
    """Values of the grid to change: key=value, for example defaults.seed=1 resamples=200."""
    data: Annotated[UseAppendAction[tuple[str, ...]], arg(aliases=("-d",))] = ()
    """Prepared folder, or READER=FOLDER with the reader as the grid's rows name it: perfect and reader of a phantom
    cohort, openkbp, synapse, … of a published data set. A folder that was begun knows its data."""
    out: OutputPath
    """Folder of the sweep; several grids may share it, and the rows that they have in common."""
    minutes: float | None = None
    """Begin no row that does not fit into them, and stop the running one, resumable, when they are over."""
    only: str = ""
    """Rows whose name fits this pattern, such as '*-sfpn-*', with all that they need."""
    list: FlagCreatePairsOff[bool] = False
    """Show the rows, their state and their minutes, and do nothing."""
    retry: FlagCreatePairsOff[bool] = False
    """Try rows again that failed in an earlier call."""
    inexact_resume: FlagCreatePairsOff[bool] = False
    """Accept that this machine rounds differently from the one where an interrupted row began."""
    nnunet_python: Path | None = None
    """Interpreter that has nnU-Net, for its rows; this one without."""

    def run(self) -> Outcome:
        """Do the rows, or list them."""
        from apatite.study.sweep.grid import read_grid
        from apatite.study.sweep.run import SweepConfig, list_sweep, run_sweep

        grid, given = read_grid(self.grid, self.settings), _folders(self.data)
        if self.list:
            state = list_sweep(grid, given, self.out, self.only)
            return _outcome(grid, state, self.out, exit_code=EXIT_OK)
        config = SweepConfig(
            minutes=self.minutes,
            only=self.only,
            retries_failed=self.retry,
            is_inexact=self.inexact_resume,
            nnunet_python=self.nnunet_python,
        )
        state = run_sweep(grid, given, self.out, config, bar)
        return _outcome(grid, state, self.out, exit_code=state.exit_code)


def _folders(given: tuple[str, ...]) -> dict[str, Path]:
    """Prepared folders by reader; one without a reader's name stands under ""."""
    from apatite.study.sweep.grid import READERS

    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        reader, path = (name, folder) if equals and name in READERS else ("", text)
        if reader in found:
            raise ConfigError(f"two folders of the {reader or 'same'} labels", where=text, fix="give each once")
        found[reader] = Path(path)
    return found


def _outcome(grid: "Grid", state: "SweepState", out: Path, exit_code: int) -> Outcome:
    counts = {name: len(state.of(name)) for name in ("done", "begun", "open", "failed", "blocked", "left out")}
    values: dict[str, Any] = {
        "grid": grid.name,
        "out": str(out),
        "counts": counts,
        "stopped_by": state.stopped_by,
        "minutes_left": round(state.left_s / 60, 1),
        "rows": [
            {
                "name": row.row.name,
                "kind": row.row.kind,
                "state": row.state,
                "minutes": round(row.seconds / 60, 2),
                "minutes_left": round(row.left_s / 60, 2),
                "error": row.error,
            }
            for row in state.rows
        ],
    }
    lines: list[Any] = [_table(state)]
    lines += [
        f"{row.row.name} failed: {row.error.get('what', '')} -> {row.error.get('fix', '')}"
        for row in state.of("failed")
    ]
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    left = f"; about {state.left_s / 60:.0f} minutes to go" if state.left_s else ""
    return Outcome(values=values, lines=[*lines, f"{said}{left}; records: {out / 'rows'}"], exit_code=exit_code)


def _table(state: "SweepState") -> Any:
    from apatite.report.html import Table

    rows = [
        (row.row.name, row.state, round(row.seconds / 60, 1) or None, round(row.left_s / 60, 1) or None)
        for row in state.rows
    ]
    return terminal_table(
        Table(
            caption="minutes of a row that is done: all of it; what it still takes is an estimate",
            columns=("row", "state", "minutes", "still"),
            rows=rows,
        )
    )
