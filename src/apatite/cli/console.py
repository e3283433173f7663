"""What the command prints: results on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from apatite.core.errors import EXIT_OK

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a verb found.

    Attributes:
        values: Plain values, printed as one JSON object with `--json`.
        lines: The same for people; strings, shown as they are, or any rich renderable.
        exit_code: 0, or 8 where a part of a batch failed.
        is_shown: False in all but the first of several processes that share a run.
    """

    values: dict[str, Any]
    lines: Sequence[Any] = field(default_factory=tuple)
    exit_code: int = EXIT_OK
    is_shown: bool = True


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print an outcome on stdout."""
    if not outcome.is_shown:
        return
    if as_json:
        print(json.dumps(outcome.values, allow_nan=False, default=str))
        return
    from rich.console import Console

    console = Console(soft_wrap=True)
    for line in outcome.lines:
        # Text is shown as it is: a path may hold what rich would take for markup.
        console.print(line, markup=False, emoji=False)


def bar(items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
    """A `core.watch.Watch` that draws one bar per stage on stderr, with ETA; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(stage, total=total if total is not None else _length(items), note="")
        is_warned = False
        for item in items:
            progress.update(task, advance=1, note=_note(item))
            if not is_warned and isinstance(item, dict) and item.get("is_collapsed"):
                progress.console.print("warning: the run may have collapsed; see metrics.jsonl", markup=False)
                is_warned = True
            yield item


def terminal_table(table: Any) -> Any:
    """A `report.html.Table` as a rich table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, caption=table.caption, caption_justify="left", pad_edge=False)
    for heading, is_numeric in zip(table.columns, table.is_numeric, strict=True):
        drawn.add_column(heading, justify="right" if is_numeric else "left")
    for row in table.texts:
        drawn.add_row(*row)
    return drawn


def _length(items: Any) -> int | None:
    return len(items) if hasattr(items, "__len__") else None


def _note(item: Any) -> str:
    """A training row shows its loss, a case its name."""
    if isinstance(item, dict) and "loss" in item:
        return f"loss {item['loss']:.4f}"
    return str(getattr(item, "case_id", ""))[:40]
