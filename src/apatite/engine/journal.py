"""The journal of a run: one JSON row per line, read back without trusting the last one.

A run that was killed may leave a torn last line, and rows of steps that its last checkpoint does not know. Both are
dropped when the run goes on, so the journal never shows a step twice.
"""

import json
from pathlib import Path
from typing import Any

from apatite.core.commit import append_line, commit_text

Row = dict[str, Any]


class Journal:
    """Rows of `metrics.jsonl`.

    Args:
        path: The file; made when the first row is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, row: Row) -> None:
        """Add one row and make it durable. A number that is not finite is written as null."""
        append_line(self.path, json.dumps({key: _finite(value) for key, value in row.items()}, allow_nan=False))

    def rows(self) -> list[Row]:
        """All whole rows."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # torn by a kill: nothing after it can be trusted
        return rows

    def rewind(self, step: int) -> None:
        """Drop the rows of `step` and later, before a run goes on from there."""
        if not self.path.exists():
            return
        kept = [row for row in self.rows() if row.get("step", -1) < step]
        commit_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))) else value
