"""A training run on disk: it journals rows, commits `last` and `best`, and goes on where it stopped.

`fit` yields numbers; this is their consumer. `last` is committed every so many seconds and at the end, `best`
whenever a check scores higher than before. Both are whole files that replace the one before in one step.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from apatite.core.errors import ConfigError, ModelError, StoppedError
from apatite.data.batches import Batch
from apatite.engine.checkpoint import load_state, restore, save_state, state_of
from apatite.engine.distributed import unshared
from apatite.engine.fit import FitPlan, Row, Task, fit
from apatite.engine.journal import Journal
from apatite.engine.machine import differences, machine, refuse_inexact
from apatite.engine.place import Place
from apatite.engine.precision import Precision, choose_device, measure_precision

_STATE_KEYS = {"step", "seed", "steps", "best_score", "machine", "optimizer"}

Check = Callable[[int], Row]
"""Looks at the model after a step; a `score` in its row, higher is better, decides what is `best`."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often things happen besides training.

    Attributes:
        save_every_s: Seconds between commits of `last`.
        check_every: Steps between checks; the last step is always checked.
        journal_every: Steps between journal rows.
    """

    save_every_s: float = 120.0
    check_every: int = 1000
    journal_every: int = 10


def measure_run(
    device: str, make_task: Callable[[Precision], Task], batch: Batch
) -> tuple[Precision, dict[str, float]]:
    """Time forward and backward of a run's own batch in each mix of formats (`precision.measure_precision`).

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`.
        make_task: The run's task in a given mix, on that mix's device.
        batch: One of its batches.

    Returns:
        The fastest mix, and seconds per step of every mix.
    """

    def make_step(precision: Precision) -> Callable[[], None]:
        task, moved = make_task(precision), batch.to(precision.device)

        def step() -> None:
            with precision.autocast():
                losses = task.losses(moved, 0)
            torch.stack(list(losses.values())).sum().backward()

        return step

    return measure_precision(choose_device(device), make_step)


class TrainingRun:
    """One run in one folder; of several processes that share it, the first one writes.

    Args:
        place: Its folder, its processes, and whether it was asked to stop.
        task: What is learned.
        optimizer: Over `task.module`.
        plan: Length, rates, precision.
        pace: How often to save, check and journal.
        renamed: What a tensor of an earlier version's checkpoint is called now.
    """

    def __init__(
        self,
        place: Place,
        task: Task,
        optimizer: torch.optim.Optimizer,
        plan: FitPlan,
        pace: Pace,
        renamed: Callable[[str], str] = str,
    ) -> None:
        self.renamed = renamed
        self.place, self.folder, self.world = place, place.folder, place.world
        self.task, self.optimizer, self.plan, self.pace = task, optimizer, plan, pace
        self.journal = Journal(self.folder.metrics)
        self.best_score = float("-inf")

    def resume(self) -> int:
        """Put the last committed state back.

        Returns:
            The step at which to go on; 0 for a fresh run.

        Raises:
            ModelError: the checkpoint belongs to another architecture.
            ConfigError: it was made with another seed or length, or on another machine (`INEXACT`).
        """
        if not self.folder.last.exists():
            # Rows of steps that were never committed are done again.
            self._rewind(0)
            return 0
        tensors, values = load_state(self.folder.last)
        if missing := _STATE_KEYS - values.keys():
            raise ModelError(
                f"the checkpoint does not say {', '.join(sorted(missing))}",
                where=str(self.folder.last),
                fix="resume with the version of Apatite that began the run, or begin it anew",
                code="MODEL_VERSION",
            )
        if (values["seed"], values["steps"]) != (self.plan.seed, self.plan.steps):
            raise ConfigError(
                f"the checkpoint is of a run of {values['steps']} steps with seed {values['seed']}",
                where=str(self.folder.last),
                fix="resume with the run's own config.yaml",
            )
        here = machine(self.plan.precision, self.world.share.of)
        found = differences(values["machine"], here)
        if not self.place.is_inexact:
            refuse_inexact(found, str(self.folder.path))
        tensors = {self.renamed(name): tensor for name, tensor in tensors.items()}
        restore(self.task.module, self.optimizer, tensors, values["optimizer"])
        self.best_score = values["best_score"] if values["best_score"] is not None else float("-inf")
        self._rewind(values["step"])
        self.place.note_resume(values["step"], found, here)
        return values["step"]

    def _rewind(self, step: int) -> None:
        if self.world.is_first:
            self.journal.rewind(step)

    def rows(self, batches: Callable[[int], Batch], check: Check | None = None, first_step: int = 0) -> Iterator[Row]:
        """Train to the end of the plan, saving on the way.

        Yields:
            The row of every step; after a check, with what it found.

        Raises:
            StoppedError: a signal asked for it; the state is committed.
            BusyError: the folder was given to another process (`LEASE_LOST`).
        """
        saved_at = time.monotonic()
        for row in fit(self.task, batches, self.optimizer, self.plan, first_step, self.world):
            done = int(row["step"]) + 1
            is_stopped = self.world.any(is_true=self.place.stop.by is not None) and done < self.plan.steps
            if self.world.is_first:
                self._keep(row, check)
                if is_stopped or done == self.plan.steps or time.monotonic() - saved_at >= self.pace.save_every_s:
                    self._save(done)
                    saved_at = time.monotonic()
            yield row
            if is_stopped:
                raise StoppedError(
                    f"stopped by {self.place.stop.by.name if self.place.stop.by else 'another process'}"
                    f" after step {done} of {self.plan.steps}; its state is committed",
                    where=str(self.folder.path),
                    fix="run the same command with --resume",
                    code="STOPPED",
                )

    def _keep(self, row: Row, check: Check | None) -> None:
        """Check the model when it is time, and journal the row."""
        done = int(row["step"]) + 1
        is_last = done == self.plan.steps
        is_checked = check is not None and (is_last or done % self.pace.check_every == 0)
        if check is not None and is_checked:
            row |= self._check(check, done)
        if is_last or is_checked or done % self.pace.journal_every == 0:
            self.place.confirm()
            self.journal.write(row)

    def _check(self, check: Check, done: int) -> Row:
        self.task.module.eval()
        with torch.no_grad(), unshared():
            found = check(done)
        if found.get("score", float("-inf")) > self.best_score:
            self.place.confirm()
            self.best_score = found["score"]
            tensors = {f"model.{name}": tensor for name, tensor in self.task.module.state_dict().items()}
            save_state(self.folder.best, tensors, {"step": done, "score": self.best_score})
        return found

    def _save(self, done: int) -> None:
        tensors, optimizer = state_of(self.task.module, self.optimizer)
        score = None if self.best_score == float("-inf") else self.best_score
        values = {
            "step": done,
            "seed": self.plan.seed,
            "steps": self.plan.steps,
            "best_score": score,
            "machine": machine(self.plan.precision, self.world.share.of),
            "optimizer": optimizer,
        }
        self.place.confirm()
        save_state(self.folder.last, tensors, values)

    def last_row(self) -> Row:
        """The newest row of the journal; empty in the processes that do not write it."""
        rows = self.journal.rows() if self.world.is_first else []
        return rows[-1] if rows else {}

    def load_best(self) -> None:
        """Put the weights of the best check back into the module; those of the last step where nothing was checked."""
        if self.folder.best.exists():
            tensors, _ = load_state(self.folder.best)
            self.task.module.load_state_dict(
                {name.removeprefix("model."): tensor for name, tensor in tensors.items()}, strict=True
            )
