"""Every case of a batch ends in exactly one row, committed in one rename with what the case gave.

    <case>/result/done.json   the row, and size and SHA-256 of every other file in the folder
    <case>/result/…           what the task wrote; nothing where it failed

A result whose files are not those that `done.json` names is no result: the case is computed anew.
"""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from apatite.core.errors import ApatiteError

DONE = "done.json"
RESULT = "result"

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one case.

    Attributes:
        case_id: Which case.
        verdict: `done`, or `failed`.
        code: Why it failed; empty where it did not, or where the error has no code.
        what, where, fix: The same for people; never a value from a header, never text of a third party.
        elapsed_s: Wall time of the attempt that counts.
        attempts: How often it was begun by the process that settled it.
        flags: Codes that go with a good result, sorted.
    """

    case_id: str
    verdict: Literal["done", "failed"]
    code: str = ""
    what: str = ""
    where: str = ""
    fix: str = ""
    elapsed_s: float = 0.0
    attempts: int = 1
    flags: tuple[str, ...] = field(default_factory=tuple)

    @property
    def is_done(self) -> bool:
        """True where there is a result."""
        return self.verdict == "done"


def failed(case_id: str, error: ApatiteError, elapsed_s: float, attempts: int) -> Row:
    """The row of a case that ended in an error."""
    return Row(
        case_id=case_id,
        verdict="failed",
        code=error.code,
        what=error.what,
        where=error.where,
        fix=error.fix,
        elapsed_s=round(elapsed_s, 3),
        attempts=attempts,
    )


def write_done(folder: Path, row: Row) -> None:
    """Write the row into a folder that is about to be committed, with the digests of what lies there."""
    files = {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / DONE).write_text(json.dumps({"row": asdict(row), "files": files}, indent=1), encoding="utf-8")


def read_done(folder: Path) -> Row | None:
    """The row of a committed result; `None` where there is none, or its files are not those it names."""
    try:
        content = json.loads((folder / DONE).read_text(encoding="utf-8"))
        row = Row(**content["row"] | {"flags": tuple(content["row"]["flags"])})
        named = content["files"]
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        is_whole = found == {*named, DONE} and all(_digest(folder / name) == named[name] for name in named)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return row if is_whole else None


def remove(entry: Path) -> None:
    """Remove a file or a folder; one that is gone already is no matter."""
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def to_csv(rows: Iterable[Any]) -> str:
    """Rows, dataclasses of one kind, as CSV text; no cell is a formula to a spreadsheet."""
    out, writer = io.StringIO(), None
    for row in rows:
        names = [column.name for column in fields(row)]
        if writer is None:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(names)
        writer.writerow([_cell(getattr(row, name)) for name in names])
    return out.getvalue()


def to_jsonl(rows: Iterable[Any]) -> str:
    """The same, one JSON object per line."""
    return "".join(f"{json.dumps(asdict(row))}\n" for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value


def _digest(path: Path) -> list[int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [path.stat().st_size, digest]
