"""Do the rows of a grid one after another, in as many calls as it takes.

A row that is done is skipped; one that was interrupted goes on where it was; one that failed is written down, and the
others go on. Two sweeps exclude each other on one folder.
"""

import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from apatite.batch.lease import hold
from apatite.core import errors
from apatite.core.commit import commit_json, sweep
from apatite.core.config import write_yaml
from apatite.core.errors import ApatiteError, BusyError, ConfigError, StorageError
from apatite.core.stop import StopRequest, stop_on_signal
from apatite.core.watch import Watch, unwatched
from apatite.study.sweep.data import SweepData, open_data, remember, remembered
from apatite.study.sweep.expand import readers_of, rows_of
from apatite.study.sweep.folder import SweepFolder
from apatite.study.sweep.grid import Grid
from apatite.study.sweep.process import Ended, IsOver, do_in_child
from apatite.study.sweep.rows import SweepRow
from apatite.study.sweep.settings import row_config, row_digest
from apatite.study.sweep.state import RowState, SweepState, chosen, ready, records_of, states_of
from apatite.study.sweep.work import Job

DoRow = Callable[[Job, IsOver, str, Watch], Ended]
"""How one row is done: in a process of its own, unless a test says otherwise."""
HALF = 0.5
"""A row that is longer than the whole limit is begun, to be gone on with later, while this part of it is left."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """How a call of a sweep is done.

    Attributes:
        minutes: Begin nothing that does not fit into them, and stop what runs when they are over; no limit when None.
        only: Pattern of the names of rows, such as `*-sfpn-*`; what those need is done too. All rows when empty.
        retries_failed: Try rows again that failed in an earlier call.
        is_inexact: Accept other rounding than an interrupted row began with.
        nnunet_python: Interpreter that has nnU-Net; this one when None.
    """

    minutes: float | None = None
    only: str = ""
    retries_failed: bool = False
    is_inexact: bool = False
    nnunet_python: Path | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"{self.minutes} minutes are no time", where="--minutes", fix="use a positive number")


STANDARD = SweepConfig()


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The time of a call.

    Attributes:
        total_s: All of it; None for no limit.
        begun: When it began.
        now: The clock.
    """

    total_s: float | None
    begun: float = field(default_factory=time.monotonic)
    now: Callable[[], float] = time.monotonic

    @property
    def left_s(self) -> float:
        """What is left of it."""
        return float("inf") if self.total_s is None else self.begun + self.total_s - self.now()

    def fits(self, needed_s: float) -> bool:
        """Whether something that takes so long is to be begun now."""
        if self.total_s is None or needed_s <= self.left_s:
            return True
        return needed_s > self.total_s and self.left_s >= HALF * self.total_s


def list_sweep(grid: Grid, given: Mapping[str, Path], out: Path, only: str = "") -> SweepState:
    """The state of every row; nothing is changed.

    Raises:
        ConfigError, DataError: as `run_sweep`.
    """
    rows, folder = rows_of(grid), SweepFolder(path=out)
    return states_of(rows, chosen(rows, only), folder, _opened(grid, given, folder, rows))


def run_sweep(
    grid: Grid,
    given: Mapping[str, Path],
    out: Path,
    config: SweepConfig = STANDARD,
    watch: Watch = unwatched,
    do_row: DoRow = do_in_child,
) -> SweepState:
    """Do rows until all are done, or the time is over, or a signal comes.

    Args:
        grid: Its rows.
        given: Prepared folders by reader; where it is empty, those with which the folder began.
        out: Folder of the sweep; made when missing.
        config: How.
        watch: Shows progress.
        do_row: How one row is done.

    Raises:
        ConfigError: grid, data or folder do not fit each other, or a finished row was made with other settings.
        DataError: a prepared folder or a record cannot be read.
        BusyError: another process holds the folder, or that of a row (`LEASE_HELD`).
        StorageError: the disk fails; what is finished is kept.
    """
    limit = Limit(total_s=None if config.minutes is None else 60 * config.minutes)
    rows, folder = rows_of(grid), SweepFolder(path=out)
    wanted = chosen(rows, config.only)
    with stop_on_signal() as stop, hold(out, "sweep"):
        data = _opened(grid, given, folder, rows)
        _begin(grid, wanted, folder, data, config)
        calls = _Calls(grid=grid, folder=folder, data=data, config=config, limit=limit, stop=stop)
        while (state := states_of(rows, wanted, folder, data)) and (chosen_row := calls.next_row(state)):
            if not calls.do(chosen_row, state, watch, do_row):
                break
        state = states_of(rows, wanted, folder, data)
        return replace(state, stopped_by=calls.stopped_by if state.of("open", "begun") else "")


@dataclass(frozen=True, kw_only=True)
class _Calls:
    """What the rows of one call have in common."""

    grid: Grid
    folder: SweepFolder
    data: SweepData
    config: SweepConfig
    limit: Limit
    stop: StopRequest

    @property
    def stopped_by(self) -> str:
        """A signal, or the limit."""
        return "minutes" if self.stop.by is None else self.stop.by.name

    def is_over(self) -> bool:
        """Whether a running row is to stop."""
        return self.stop.by is not None or self.limit.left_s <= 0

    def next_row(self, state: SweepState) -> RowState | None:
        """The first row that can be begun and fits."""
        if self.is_over():
            return None
        return next((row for row in ready(state, self.folder) if self.limit.fits(row.left_s)), None)

    def do(self, row: RowState, state: SweepState, watch: Watch, do_row: DoRow) -> bool:
        """Do one row; False where it was stopped."""
        name = row.row.name
        title = f"{len(state.of('done')) + 1}/{len(state.rows)} {name}, {state.left_s / 60:.0f} min to go"
        ended = do_row(self._job(name), self.is_over, title, watch)
        if ended.how == "failed":
            _refuse_no_fault_of_the_row(ended)
            commit_json(self.folder.failure(name), ended.error | {"tail": ended.tail})
        return ended.how != "stopped"

    def _job(self, name: str) -> Job:
        return Job(
            grid=self.grid,
            row=name,
            data=self.data.folders,
            out=self.folder.path,
            is_inexact=self.config.is_inexact,
            nnunet_python=self.config.nnunet_python,
            command=command_of(self.grid, name, self.data, self.folder.path),
        )


def command_of(grid: Grid, row: str, data: SweepData, out: Path) -> str:
    """How to run a row again, from inside the folder of the sweep."""
    places = [
        f"-d {reader}={os.path.relpath(folder.resolve(), out.resolve())}" for reader, folder in data.folders.items()
    ]
    return f"apatite sweep grids/{shlex.quote(grid.name)}.yaml {' '.join(places)} -o . --only {row}"


def _opened(grid: Grid, given: Mapping[str, Path], folder: SweepFolder, rows: Mapping[str, SweepRow]) -> SweepData:
    return open_data(given or remembered(folder), readers_of(rows), grid)


def _begin(
    grid: Grid, wanted: Mapping[str, SweepRow], folder: SweepFolder, data: SweepData, config: SweepConfig
) -> None:
    """Refuse what no row could be trained with and what does not fit the folder, then make it ready."""
    done = records_of(list(wanted), folder)
    for name, row in wanted.items():
        if name in done and (lost := [need for need in row.needs if need not in done]):
            raise ConfigError(
                f"the record of {lost[0]}, which it rests on, is gone",
                where=name,
                fix="put it back, or remove the record of this row too",
            )
        if not row.is_timed:  # its length follows from rows that are not done yet
            row_config(grid, row)
    for name, record in done.items():
        if row_digest(grid, wanted[name], done) != record.digests["settings"]:
            raise ConfigError(
                "was done with other settings under the same name",
                where=name,
                fix="give the block that changed a name of its own, or name a new folder with -o",
            )
    remember(folder, data)
    write_yaml(folder.grid(grid.name), grid)
    for part in ("rows", "plans", "failures", "logs", "precision"):
        sweep(folder.path / part)
    for name in wanted:
        if config.retries_failed or name in done:
            folder.failure(name).unlink(missing_ok=True)


def _refuse_no_fault_of_the_row(ended: Ended) -> None:
    """A disk that fails, or a folder that is held, ends the sweep: no other row would fare better.

    Raises:
        StorageError, BusyError: it was one of these.
    """
    kind = getattr(errors, str(ended.error.get("error")), ApatiteError)
    if kind in (StorageError, BusyError):
        values = ended.error
        raise kind(values["what"], where=values["where"], fix=values["fix"], code=values["code"])
