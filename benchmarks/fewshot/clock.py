"""How long a run has trained, over all the pieces it was done in.

Seconds are written down by step. A run that is killed goes on from an earlier step, and with it from the seconds that
were spent by that step: work that is done twice counts once, as in a run that was never stopped.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from apatite.core.commit import append_line

T = TypeVar("T")
EVERY = 5
"""Steps between two notes."""
SAY_S = 30.0
"""Seconds between two lines on the terminal."""


@dataclass(kw_only=True)
class StepClock:
    """A watch: it hands rows of steps on and notes the seconds since it was made.

    Attributes:
        path: The notes, one JSON object per line.
        name: Of the row, for the terminal.
        now: The clock.
    """

    path: Path
    name: str = ""
    now: Callable[[], float] = time.monotonic
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.now()

    def __call__(self, items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
        """Each item in turn."""
        del total
        before: float | None = None
        step, said = 0, self.now()
        for item in items:
            if isinstance(item, Mapping) and "step" in item:
                step = int(item["step"]) + 1
                before = self.spent_by(step - 1) if before is None else before
                if step % EVERY == 0:
                    self._note(step, before)
                if self.now() - said >= SAY_S:
                    said = self.now()
                    print(f"{self.name}: {stage}, step {step}, {before + said - self.begun:.0f} s", flush=True)
            yield item
        if before is not None:
            self._note(step, before)

    def spent_by(self, step: int) -> float:
        """Seconds that the run had trained when it had done so many steps."""
        noted = [note for note in self._notes() if note["step"] <= step]
        if not noted:
            return 0.0
        last = max(noted, key=lambda note: note["step"])
        return last["seconds"] * (step / last["step"])

    def total(self) -> tuple[int, float]:
        """Steps and seconds of the newest note; zeros for a run that has not begun."""
        notes = list(self._notes())
        return (int(notes[-1]["step"]), notes[-1]["seconds"]) if notes else (0, 0.0)

    def _note(self, step: int, before: float) -> None:
        append_line(self.path, json.dumps({"step": step, "seconds": round(before + self.now() - self.begun, 3)}))

    def _notes(self) -> Iterator[dict[str, float]]:
        """What was noted; a later note of a step stands for the earlier, a torn line for none."""
        if not self.path.exists():
            return
        newest: dict[float, dict[str, float]] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                note = json.loads(line)
            except ValueError:
                continue
            # After a stop the steps beyond the last saved one are done again: their notes are void.
            newest = {step: old for step, old in newest.items() if step < note["step"]}
            newest[note["step"]] = note
        yield from newest.values()
