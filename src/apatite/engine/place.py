"""Where a run happens: a folder held by this run alone, the processes that do it, and the wish to stop.

A run exists once its `config.yaml` does, the last thing that is written before the first step. So `--resume` on a
folder without one begins the run: a batch system may start the same command again and again.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from apatite.batch.lease import Lease, hold
from apatite.core.commit import append_line, sweep
from apatite.core.config import dump, load
from apatite.core.stop import StopRequest, stop_on_signal
from apatite.core.watch import Watch, unwatched
from apatite.engine.distributed import World, joined
from apatite.engine.precision import Precision
from apatite.io.run_folder import RunFolder

Resume = bool | Literal["inexact"]
"""Whether to go on with a run, and whether other rounding than it began with is accepted."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where, with whom, and whether it goes on.

    Attributes:
        folder: Of the run.
        world: Its processes.
        stop: Whether it was asked to stop.
        is_resumed: Whether a run lies there that goes on.
        is_inexact: Whether other rounding is accepted than the run began with.
        lease: On the folder, in the process that writes.
    """

    folder: RunFolder
    world: World
    stop: StopRequest
    is_resumed: bool
    is_inexact: bool = False
    lease: Lease | None = None

    def confirm(self) -> None:
        """Refuse to write once the folder was given to another process.

        Raises:
            BusyError: it was (`LEASE_LOST`).
        """
        if self.lease is not None:
            self.lease.require()

    def watched(self, watch: Watch) -> Watch:
        """The given watch in the first process; in the others nothing is shown."""
        return watch if self.world.is_first else unwatched

    def agree_on(self, precision: Precision) -> Precision:
        """The first process's measurement, in all of them."""
        return load(Precision, json.loads(self.world.agree(json.dumps(dump(precision)))), "precision")

    def note_resume(self, step: int, found: list[str], machine: dict[str, Any]) -> None:
        """Add to `resumes.jsonl` where and when the run went on, and what differs there."""
        if self.world.is_first:
            row = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "step": step,
                "is_exact": not found,
                "differences": found,
                "machine": machine,
            }
            append_line(self.folder.resumes, json.dumps(row))


@contextmanager
def occupy(out: Path, verb: str, *, resume: Resume) -> Iterator[Place]:
    """Hold a run folder, join the other processes and listen for signals, for the time of the block.

    Args:
        out: The run folder.
        verb: What is done in it.
        resume: Go on with the run in it, if there is one; `"inexact"` accepts other rounding than it began with.

    Raises:
        BusyError: another process holds the folder (`LEASE_HELD`).
        DataError: a run lies there, and `resume` is false.
    """
    folder = RunFolder(path=out)
    is_inexact = resume == "inexact"
    with joined() as world, stop_on_signal() as stop:
        if not world.is_first:
            is_resumed = world.agree("") == "resumed"
            yield Place(folder=folder, world=world, stop=stop, is_resumed=is_resumed, is_inexact=is_inexact)
            return
        if not resume:
            folder.refuse_used()  # before anything takes time, and without leaving a trace
        with hold(out, verb) as lease:
            if not resume:
                folder.refuse_used()
            sweep(out)
            is_resumed = world.agree("resumed" if folder.config.exists() else "new") == "resumed"
            yield Place(
                folder=folder, world=world, stop=stop, is_resumed=is_resumed, is_inexact=is_inexact, lease=lease
            )
