"""Outcomes as a table that can be read back: one line per model, case, label and HU gate.

Every number is written so that it reads back exactly, so whatever was computed from the outcomes can be recomputed from
`cases.csv` alone. Dice, precision and recall follow from the counts; they stand there for people, and are not read.
"""

import csv
import gzip
import io
import math
import types
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from apatite.core.errors import DataError
from apatite.core.registry import nearest
from apatite.io.manifest import plain_cell, text_of_cell
from apatite.study.outcomes import CaseOutcome

NAMES: Final = tuple(field.name for field in fields(CaseOutcome))
DERIVED: Final = ("dice", "precision", "recall")
LATER: Final = ("surface_dice", "hd95_mm", "betti_error", "soft_mm3", "low_mm3", "high_mm3")
"""Columns that earlier versions did not write; where one is missing, it is unknown in every case."""

MAX_BYTES: Final = 2**28
"""Of a table, unpacked: about a million rows."""

_COUNTS: Final = (
    "true_positive", "false_positive", "false_negative", "true_negative",
    "lesions_reference", "lesions_found", "lesions_predicted", "lesions_true", "betti_error",
)  # fmt: skip


def outcomes_csv(outcomes: Mapping[str, Sequence[CaseOutcome]]) -> str:
    """The table as text; what is unknown or undefined is empty.

    Args:
        outcomes: Model → its rows.
    """
    stream = io.StringIO()
    plain = csv.writer(stream, lineterminator="\n")
    # The plain writer leaves a lone carriage return unquoted, where a reader sees the end of the line.
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    plain.writerow(["model", *NAMES, *DERIVED])
    for model, rows in outcomes.items():
        for row in rows:
            cells = [plain_cell(model), *(_cell(getattr(row, name)) for name in NAMES), *_ratios(row)]
            is_plain = not any("\r" in cell for cell in cells if isinstance(cell, str))
            (plain if is_plain else quoted).writerow(cells)
    return stream.getvalue()


def read_outcomes(path: Path) -> dict[str, list[CaseOutcome]]:
    """Model → its rows, as they were written, in the order of the file.

    Args:
        path: A `.csv`, or a `.csv.gz`.

    Raises:
        DataError: the file is missing (`MISSING_FILE`), too large (`TOO_LARGE`), holds no row (`NO_CASES`), or is no
            table of outcomes (`BAD_TABLE`): a column is unknown, missing or stands twice, or a cell makes no sense; the
            message names line and column.
    """
    lines = _lines(path)
    columns = lines[0] if lines else []
    _check_columns(columns, path)
    outcomes: dict[str, list[CaseOutcome]] = {}
    for number, line in enumerate(lines[1:], start=2):
        place = f"{path} line {number}"
        if len(line) != len(columns):
            raise _bad(f"has {len(line)} cells under {len(columns)} columns", place)
        cells = dict(zip(columns, line, strict=True))
        outcomes.setdefault(text_of_cell(cells["model"]), []).append(_outcome(cells, place))
    if not outcomes:
        raise DataError("holds no outcome", where=str(path), fix="evaluate a model first", code="NO_CASES")
    return outcomes


def _cell(value: object) -> object:
    """NumPy's numbers become Python's, whose text reads back exactly; no spreadsheet runs a text."""
    if isinstance(value, str):
        return plain_cell(value)
    return "" if value is None else value.item() if hasattr(value, "item") else value  # pyright: ignore[reportAttributeAccessIssue]


def _ratios(row: CaseOutcome) -> list[str]:
    ratios = (row.overlap.dice, row.overlap.precision, row.overlap.recall)
    return ["" if math.isnan(ratio) else f"{ratio:.6f}" for ratio in ratios]


def _lines(path: Path) -> list[list[str]]:
    try:
        if not path.is_file():
            raise DataError("there is no such file", where=str(path), fix="check the path", code="MISSING_FILE")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _bad("cannot be read", str(path)) from error
    if len(content) > MAX_BYTES:
        raise DataError(
            f"is over {MAX_BYTES} bytes", where=str(path), fix="split it by label or HU gate", code="TOO_LARGE"
        )
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _bad("cannot be read as CSV", str(path)) from error
    return [row for row in rows if row]


def _check_columns(columns: Sequence[str], path: Path) -> None:
    known = ("model", *NAMES, *DERIVED)
    if unknown := [name for name in columns if name not in known]:
        raise _bad(f"column {unknown[0]!r} is unknown", str(path), nearest(unknown[0], list(known)))
    if missing := [name for name in ("model", *NAMES) if name not in columns and name not in LATER]:
        raise _bad(f"column {missing[0]!r} is missing", str(path))
    if len(set(columns)) != len(columns):
        raise _bad("a column stands twice", str(path))


def _outcome(cells: Mapping[str, str], place: str) -> CaseOutcome:
    values: dict[str, Any] = {}
    for name in NAMES:
        if name in cells:
            try:
                values[name] = _value(name, cells[name])
            except ValueError as error:
                raise _bad(f"{name} is {cells[name][:40]!r}", place) from error
    return CaseOutcome(**values)


def _value(name: str, text: str) -> str | int | float | None:
    """A cell in the type of its field."""
    allowed = _TYPES[name]
    if text == "" and type(None) in allowed:
        return None
    if int in allowed:
        count = int(text)
        if name in _COUNTS and count < 0:
            raise ValueError("a count is negative")
        return count
    if float in allowed:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError("not finite")
        return number
    return text_of_cell(text)


def _allowed(hint: Any) -> tuple[type, ...]:
    return get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)


_TYPES: Final = {name: _allowed(hint) for name, hint in get_type_hints(CaseOutcome).items()}


def _bad(what: str, where: str, fix: str = "give the cases.csv of an evaluation, unaltered") -> DataError:
    return DataError(what, where=where, fix=fix, code="BAD_TABLE")
