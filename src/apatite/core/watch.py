"""How library code shows progress without knowing who watches.

Library functions wrap what they iterate over: `for case in watch(cases, "cutting regions")`. The command passes a
bar with an ETA; Python users pass nothing, and nothing is shown.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Watch(Protocol):
    """Iterate over `items` unchanged, and show how far it has got."""

    def __call__(self, items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
        """Each item in turn."""
        ...


def unwatched(items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
    """The watch that shows nothing."""
    del stage, total
    yield from items
