"""How long a run has trained, over all the pieces in which it was done.

Seconds are written down by step. A run that is killed goes on from an earlier step, and with it from the seconds that
were spent by that step: work that is done twice counts once, as in a run that was never stopped.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from apatite.core.commit import append_line
from apatite.core.watch import Watch, unwatched

T = TypeVar("T")
EVERY_S = 2.0
"""Between two notes; each is made durable, which takes a few milliseconds."""


@dataclass(frozen=True, kw_only=True)
class StepClock:
    """A watch that notes seconds by step. Time counts from the first step: what comes before is no training.

    Attributes:
        path: The notes, one JSON object per line.
        watch: Shows progress.
        now: The clock.
    """

    path: Path
    watch: Watch = unwatched
    now: Callable[[], float] = time.monotonic

    def __call__(self, items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
        """Each item in turn; those that say which step they are, are timed."""
        begun = noted = self.now()
        before: float | None = None
        step = 0
        try:
            for item in self.watch(items, stage, total):
                if isinstance(item, Mapping) and "step" in item:
                    step = int(item["step"]) + 1
                    before = self.spent_by(step - 1) if before is None else before
                    if self.now() - noted >= EVERY_S:
                        noted = self.now()
                        self._note(step, before + noted - begun)
                yield item
        finally:
            if before is not None:
                self._note(step, before + self.now() - begun)

    def spent_by(self, step: int) -> float:
        """Seconds that the run had trained when it had done so many steps."""
        earlier = [(done, seconds) for done, seconds in self._notes().items() if done <= step]
        if not earlier:
            return 0.0
        done, seconds = max(earlier)
        return seconds * step / done

    def total(self) -> tuple[int, float]:
        """Steps and seconds of the newest note; zeros for a run that has not begun."""
        notes = self._notes()
        return max(notes.items()) if notes else (0, 0.0)

    def step_s(self) -> float:
        """Seconds of a step, without what came after the last one where that can be told apart; 0 before any."""
        steps, seconds = self.total()
        earlier = max(((done, spent) for done, spent in self._notes().items() if done < steps), default=None)
        done, spent = earlier or (steps, seconds)
        return spent / done if done else 0.0

    def _note(self, step: int, seconds: float) -> None:
        append_line(self.path, json.dumps({"step": step, "seconds": round(seconds, 3)}))

    def _notes(self) -> dict[int, float]:
        """Seconds by step; a torn line counts for none."""
        if not self.path.exists():
            return {}
        notes: dict[int, float] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                note = json.loads(line)
                step, seconds = int(note["step"]), float(note["seconds"])
            except (ValueError, KeyError, TypeError):
                continue
            # Steps beyond the state from which a run went on are done again: what was noted of them is void.
            while notes and next(reversed(notes)) >= step:
                notes.popitem()
            notes[step] = seconds
        return notes
