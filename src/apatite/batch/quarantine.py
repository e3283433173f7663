"""Which case comes next: each once, and one that took its process with it once more, at the end.

Memory that ran out, and a process that was killed, may be the fault of what ran beside it, so such a case is tried
again with nothing beside it. A second death is the case's own fault: it is set aside under the name of what happened,
and not touched again in this batch.
"""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from apatite.batch.attempt import Death, Item
from apatite.batch.rows import Row, failed
from apatite.core.errors import ApatiteError
from apatite.core.reasons import REASONS

T = TypeVar("T")

MOST_DEATHS = 2
"""With so many, a case is not tried again."""
_FIXES = {
    "OOM": "allow more memory, or look at this file",
    "DEADLINE": "allow more time, or look at this file",
    "WORKER_KILLED": "look at this file",
}


class Queue(Generic[T]):
    """The cases that wait; in their order, but for those that are tried again."""

    def __init__(self, items: Iterable[Item[T]]) -> None:
        self._waiting = deque(items)
        self._lonely: deque[Item[T]] = deque()
        self._alone: str | None = None
        self._attempts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._lonely)

    def add(self, item: Item[T]) -> None:
        """One more case, which another process left behind."""
        self._waiting.append(item)

    def next(self, in_flight: int) -> Item[T] | None:
        """The case to begin now, beside so many others; `None` where it has to wait for them."""
        if self._alone is not None:
            return None
        if self._waiting:
            return self._waiting.popleft()
        if self._lonely and not in_flight:
            item = self._lonely.popleft()
            self._alone = item.name
            return item
        return None

    def begin(self, item: Item[T]) -> int:
        """Note that a case is tried; which attempt it is, from 1."""
        self._attempts[item.name] += 1
        return self._attempts[item.name]

    def ended(self, item: Item[T]) -> None:
        """Note that nothing works on a case any more."""
        if self._alone == item.name:
            self._alone = None

    def bury(self, item: Item[T], death: Death) -> Row | None:
        """Let a case whose process died wait for its second attempt; its row where that was the second."""
        attempts = self._attempts[item.name]
        if attempts >= MOST_DEATHS:
            error = ApatiteError(REASONS[death.code][1], where=item.case_id, fix=_FIXES[death.code], code=death.code)
            return failed(item.case_id, error, death.elapsed_s, attempts)
        (self._waiting if death.code == "DEADLINE" else self._lonely).append(item)
        return None
