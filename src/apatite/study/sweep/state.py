"""How far a sweep has got: the state of every row, what is still to be done, and how long that will take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Literal

from apatite.core.errors import EXIT_OK, EXIT_PARTIAL, EXIT_RESUMABLE, ConfigError
from apatite.study.sweep.clock import StepClock
from apatite.study.sweep.data import SweepData
from apatite.study.sweep.estimate import expected_s, spent_s
from apatite.study.sweep.folder import SweepFolder, read_json
from apatite.study.sweep.record import Record, read_record
from apatite.study.sweep.rows import SweepRow

State = Literal["done", "begun", "open", "failed", "blocked", "left out"]
"""`blocked` needs a row that failed; `left out` asks for more labels than there are."""


@dataclass(frozen=True, kw_only=True)
class RowState:
    """One row.

    Attributes:
        row: The row.
        state: Where it stands.
        seconds: What it took, or has taken so far.
        left_s: What it will still take, as far as is known; 0 for a row that will not be begun.
        error: Why it failed.
    """

    row: SweepRow
    state: State
    seconds: float
    left_s: float
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether there is something to do."""
        return self.state in ("open", "begun")


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """All rows that were asked for.

    Attributes:
        rows: In the order in which they are done.
        stopped_by: Why the sweep ended before all were done: a signal's name, or `minutes`; empty otherwise.
    """

    rows: tuple[RowState, ...]
    stopped_by: str = ""

    def of(self, *states: State) -> list[RowState]:
        """The rows in some states."""
        return [row for row in self.rows if row.state in states]

    @property
    def left_s(self) -> float:
        """What is still to be done, in seconds."""
        return sum(row.left_s for row in self.rows)

    @property
    def exit_code(self) -> int:
        """75 while rows are open, for the same command goes on; then 8 where some failed; else 0."""
        if self.of("open", "begun"):
            return EXIT_RESUMABLE
        return EXIT_PARTIAL if self.of("failed", "blocked") else EXIT_OK


def chosen(rows: Mapping[str, SweepRow], pattern: str) -> dict[str, SweepRow]:
    """The rows whose name fits a pattern such as `*-sfpn-*`, with all that they need; all rows without one.

    Raises:
        ConfigError: no name fits.
    """
    wanted = {name for name in rows if not pattern or fnmatch(name, pattern)}
    if not wanted:
        raise ConfigError(f"no row is called {pattern!r}", fix="see the names with --list")
    # Backwards, since every row follows what it needs.
    for row in reversed(list(rows.values())):
        wanted |= set(row.needs) if row.name in wanted else set()
    return {name: row for name, row in rows.items() if name in wanted}


def records_of(rows: Sequence[str], folder: SweepFolder) -> dict[str, Record]:
    """Records of those rows that are done."""
    return {name: read_record(folder.path, name) for name in rows if folder.is_done(name)}


def states_of(
    rows: Mapping[str, SweepRow], wanted: Mapping[str, SweepRow], folder: SweepFolder, data: SweepData
) -> SweepState:
    """Look at the folder.

    Args:
        rows: All of the grid, in order.
        wanted: Those that were asked for.
        folder: Of the sweep.
        data: Says how many labels there are.
    """
    done = records_of(list(rows), folder)
    found: dict[str, RowState] = {}
    for row in wanted.values():
        state = _state(row, folder, data, found)
        spent = spent_s(done[row.name]) if state == "done" else StepClock(path=folder.clock(row.name)).total()[1]
        left = max(expected_s(row, rows, done) - spent, 0.0) if state in ("open", "begun") else 0.0
        error = read_json(folder.failure(row.name)) if state == "failed" else {}
        found[row.name] = RowState(row=row, state=state, seconds=spent, left_s=left, error=error)
    return SweepState(rows=tuple(found.values()))


def ready(state: SweepState, folder: SweepFolder) -> Iterator[RowState]:
    """The rows that can be begun now, in order."""
    for row in state.rows:
        if row.is_open and all(folder.is_done(need) for need in row.row.needs):
            yield row


def _state(row: SweepRow, folder: SweepFolder, data: SweepData, found: Mapping[str, RowState]) -> State:
    before = {found[need].state for need in row.needs}
    if folder.is_done(row.name):
        return "done"
    if row.label_count > data.num_labelled or "left out" in before:
        return "left out"
    if folder.failure(row.name).exists():
        return "failed"
    if before & {"failed", "blocked"}:
        return "blocked"
    return "begun" if folder.run(row.name).exists() else "open"
