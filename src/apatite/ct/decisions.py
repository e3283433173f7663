"""What reviewers decided about cases: one table, read strictly, obeyed by whatever runs afterwards.

    case_id,decision,reason,who,when
    s-0a1b,reject,registered upside down,reviewer 2,2026-03-01T09:30:00+00:00

A later row about the same case replaces an earlier one, so a decision is taken back by adding a row, and the table
shows who thought what when.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from apatite.core.commit import commit_text
from apatite.core.errors import DataError
from apatite.core.registry import nearest

KEEP, REJECT = "keep", "reject"
REJECTED = "REJECTED"
"""The code of a rejected case."""
LONGEST = 500
"""Characters of a cell."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one reviewer said about one case.

    Attributes:
        case_id: Of the case.
        decision: `keep` or `reject`.
        reason: In the reviewer's words; a rejection needs one.
        who: The reviewer.
        when: ISO 8601; without a time zone it is UTC.
    """

    case_id: str
    decision: str
    reason: str
    who: str
    when: str

    def __post_init__(self) -> None:
        if self.decision not in (KEEP, REJECT):
            raise DataError(
                f"unknown decision {self.decision[:80]!r}",
                where=self.case_id,
                fix=nearest(self.decision, [KEEP, REJECT]),
            )
        for name in ("case_id", "who") + (("reason",) if self.decision == REJECT else ()):
            if not getattr(self, name):
                raise DataError(f"has no {name}", where=self.case_id, fix=f"fill in the column {name}")
        if max(len(cell) for cell in astuple(self)) > LONGEST:
            raise DataError(f"has a cell of more than {LONGEST} characters", where=self.case_id, fix="shorten it")
        try:
            datetime.fromisoformat(self.when)
        except ValueError:
            raise DataError(
                "has no usable time", where=self.case_id, fix="write `when` as 2026-03-01T09:30:00+00:00"
            ) from None

    @property
    def at(self) -> datetime:
        """When, as a point in time."""
        time = datetime.fromisoformat(self.when)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


COLUMNS = tuple(field.name for field in fields(Decision))


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """Read the table, every row in its order.

    Raises:
        DataError: it cannot be read, has other columns than these five, or a row is wrong; the message names the row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise DataError(
            "cannot be read as a CSV file", where=str(path), fix=f"write the columns {','.join(COLUMNS)}"
        ) from None
    columns = [name.strip() for name in rows[0]] if rows else []
    if sorted(columns) != sorted(COLUMNS):
        raise DataError(
            "has other columns than those of a table of decisions", where=str(path), fix=f"write {','.join(COLUMNS)}"
        )
    return tuple(_parse(columns, row, f"{path.name} row {number}") for number, row in enumerate(rows[1:], start=2))


def write_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """Write the table, whole or not at all."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    # A spreadsheet would run such a cell as a formula; the quote keeps it text, and reading takes it off again.
    writer.writerows(
        ["'" + cell if cell.startswith(_FORMULA_STARTS) else cell for cell in astuple(decision)]
        for decision in decisions
    )
    commit_text(path, out.getvalue())


def latest(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """The decision that holds for each case: the latest, and of those taken at the same time the last in the table."""
    result: dict[str, Decision] = {}
    for decision in decisions:
        if decision.case_id not in result or decision.at >= result[decision.case_id].at:
            result[decision.case_id] = decision
    return result


def apply_decisions(decisions: Iterable[Decision], case_ids: Iterable[str]) -> dict[str, str]:
    """The code of every rejected case.

    Args:
        decisions: All rows of the table.
        case_ids: Every case there is.

    Returns:
        `REJECTED` per rejected case, in the order of `case_ids`; cases that are kept, or were not looked at, are not in
        it.

    Raises:
        DataError: a decision is about a case that does not exist.
    """
    holds, known = latest(decisions), list(case_ids)
    unknown = sorted(set(holds) - set(known))
    if unknown:
        raise DataError(
            f"a decision is about the unknown case {unknown[0][:80]!r}",
            fix=nearest(unknown[0], known),
            code="CASES_DIFFER",
        )
    return {case_id: REJECTED for case_id in known if case_id in holds and holds[case_id].decision == REJECT}


def _parse(columns: Sequence[str], row: Sequence[str], where: str) -> Decision:
    if len(row) != len(columns):
        raise DataError(
            f"has {len(row)} cells, the header has {len(columns)}", where=where, fix="quote cells that hold a comma"
        )
    cells = dict(zip(columns, (cell.strip().removeprefix("'") for cell in row), strict=True))
    try:
        return Decision(**cells)
    except DataError as error:
        raise DataError(error.what, where=f"{where} {error.where}".strip(), fix=error.fix, code=error.code) from None
