"""One CSV lists every case, labelled or not: what it is, where its files lie, and which split it belongs to.

Paths are relative to the manifest's own folder. The names of the label values lie beside it in `<stem>.labels.json`.
"""

import csv
import hashlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_json, commit_text
from apatite.core.errors import DataError
from apatite.core.registry import nearest
from apatite.io.case import COLUMNS, MAX_LABEL, Case

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBERS = ("slice_thickness_mm", "age", "kvp")
_REQUIRED = ("case_id", "patient_id", "image")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All cases of a data set.

    Attributes:
        root: Folder from which the paths of the cases start.
        cases: In the order of the file.
        label_names: Name of each label value, `{1: "calcium"}`.
        ignored_columns: Columns of the file that mean nothing here; they are not written back.
    """

    root: Path
    cases: tuple[Case, ...]
    label_names: dict[int, str]
    ignored_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        twice = [case_id for case_id, count in Counter(case.case_id for case in self.cases).items() if count > 1]
        if twice:
            raise DataError(
                f"case_id {twice[0]!r} is used {_times(self.cases, twice[0])} times",
                fix="give every case a name of its own",
            )
        bad = [value for value in self.label_names if not 1 <= value <= MAX_LABEL]
        if bad:
            raise DataError(
                f"label value {bad[0]} leaves 1 to {MAX_LABEL}", fix="renumber the labels", code="BAD_LABEL"
            )
        for case in self.cases:
            unknown = set(case.annotated_labels) - set(self.label_names)
            if unknown:
                raise DataError(
                    f"annotated label {min(unknown)} has no name",
                    where=case.case_id,
                    fix="name it in the .labels.json file",
                    code="BAD_LABEL",
                )

    @property
    def usable(self) -> tuple[Case, ...]:
        """The cases without a verdict, in order, whatever their split."""
        return tuple(case for case in self.cases if not case.verdict)

    def of_split(self, *splits: str) -> tuple[Case, ...]:
        """The cases of one or several splits, in order."""
        return tuple(case for case in self.cases if case.split in splits)

    def image_path(self, case: Case) -> Path:
        """Where the image of a case lies."""
        return self.root / case.image

    def label_path(self, case: Case) -> Path | None:
        """Where the label map of a case lies; `None` without one."""
        return self.root / case.label if case.label else None

    def truth_path(self, case: Case) -> Path | None:
        """Where the truth of a phantom case lies; `None` without one."""
        return self.root / case.truth if case.truth else None

    def annotated(self, case: Case) -> tuple[int, ...]:
        """The label values that were looked for in a case, ascending; none without a label file."""
        if not case.label:
            return ()
        return tuple(sorted(case.annotated_labels or self.label_names))


def relative_path(path: Path, root: Path) -> str:
    """`path` as it stands in a manifest that lies in `root`, with forward slashes."""
    return Path(os.path.relpath(path.absolute(), root.absolute())).as_posix()


def manifest_digest(manifest: Manifest) -> str:
    """SHA-256 of what a manifest says, whatever folder it lies in."""
    labels = json.dumps({str(value): name for value, name in sorted(manifest.label_names.items())})
    return hashlib.sha256((to_csv(manifest.cases) + labels).encode()).hexdigest()


def labels_path(path: Path) -> Path:
    """The file of label names beside a manifest."""
    return path.with_name(f"{path.stem}.labels.json")


def read_manifest(path: Path, split_words: Mapping[str, str] | None = None) -> Manifest:
    """Read a manifest and its label names.

    Args:
        path: The CSV file.
        split_words: Other words for splits, `{"train": "pretrain"}`, for tables made elsewhere.

    Raises:
        DataError: the file cannot be read, or a row is wrong; the message names row and column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "cannot be read as a CSV file", where=str(path), fix="check the path; `apatite index` makes a manifest"
        ) from error
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise DataError("lists no case", where=str(path), fix="add one row per case below the column names")
    columns = [name.strip() for name in rows[0]]
    _check_columns(columns, path)
    words = dict(split_words or {})
    cases = tuple(
        _parse_row(columns, row, f"{path.name} row {number}", words) for number, row in enumerate(rows[1:], start=2)
    )
    ignored = tuple(name for name in columns if name not in COLUMNS)
    return Manifest(root=path.parent, cases=cases, label_names=_read_label_names(path, cases), ignored_columns=ignored)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest and its label names; paths are rewritten to start from the new file's folder."""
    cases = manifest.cases
    if path.parent.resolve() != manifest.root.resolve():
        cases = tuple(moved(case, manifest.root, path.parent) for case in cases)
    commit_json(labels_path(path), {str(value): name for value, name in sorted(manifest.label_names.items())})
    commit_text(path, to_csv(cases))


def moved(case: Case, old_root: Path, new_root: Path) -> Case:
    """The same case seen from another folder; absolute paths stay."""

    def rebase(text: str) -> str:
        return text if not text or Path(text).is_absolute() else relative_path(old_root / text, new_root)

    return replace(case, image=rebase(case.image), label=rebase(case.label), truth=rebase(case.truth))


def to_csv(cases: tuple[Case, ...]) -> str:
    """The cases as CSV text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        writer.writerow([plain_cell(getattr(case, name)) for name in COLUMNS])
    return out.getvalue()


def plain_cell(value: Any) -> str:
    """A value as a cell of a CSV that no spreadsheet runs; `None` is empty, items of a tuple stand side by side."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(item if isinstance(item, str) else repr(item) for item in value)
    if isinstance(value, str):
        # A spreadsheet would run such a cell as a formula; the quote keeps it text, and reading takes it off again.
        return "'" + value if value.startswith(_FORMULA_STARTS) or value.startswith("'") else value
    return repr(value)


def guarded(value: object) -> object:
    """A text as `plain_cell` makes it; anything else as it is, for the writer to format."""
    return plain_cell(value) if isinstance(value, str) else value


def text_of_cell(cell: str) -> str:
    """Inverse of `plain_cell` for text."""
    return cell[1:] if cell.startswith("'") else cell


def _times(cases: tuple[Case, ...], case_id: str) -> int:
    return sum(case.case_id == case_id for case in cases)


def _check_columns(columns: list[str], path: Path) -> None:
    if len(set(columns)) != len(columns):
        raise DataError("has a column twice", where=str(path), fix="remove one of them")
    for name in _REQUIRED:
        if name not in columns:
            raise DataError(f"has no column {name!r}", where=str(path), fix=nearest(name, columns))


def _parse_row(columns: list[str], row: list[str], where: str, split_words: dict[str, str]) -> Case:
    if len(row) != len(columns):
        raise DataError(
            f"has {len(row)} cells, the header has {len(columns)}", where=where, fix="quote cells that hold a comma"
        )
    values: dict[str, Any] = {}
    for name, cell in zip(columns, row, strict=True):
        if name in COLUMNS and cell.strip():
            values[name] = _parse_cell(name, text_of_cell(cell.strip()), where)
    values["split"] = split_words.get(values.get("split", ""), values.get("split", ""))
    try:
        return Case(**{name: values.get(name, "") for name in _REQUIRED} | values)
    except DataError as error:
        raise DataError(error.what, where=f"{where} {error.where}".strip(), fix=error.fix, code=error.code) from None


def _parse_cell(name: str, text: str, where: str) -> Any:
    try:
        if name in _NUMBERS:
            return _finite(text)
        if name == "fold":
            return int(text)
        if name == "codes":
            return tuple(text.split())
        if name == "annotated_labels":
            return tuple(sorted({int(word) for word in text.split()}))
        if name == "region_centre_ras_mm":
            x, y, z = (_finite(word) for word in text.split())
            return (x, y, z)
    except ValueError:
        raise DataError(
            f"{name} cannot be {text[:80]!r}", where=where, fix="see docs/reference/manifest.md for the columns"
        ) from None
    return text


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _read_label_names(path: Path, cases: tuple[Case, ...]) -> dict[int, str]:
    names_path = labels_path(path)
    if not names_path.exists():
        values = {value for case in cases for value in case.annotated_labels}
        if not values and any(case.label for case in cases):
            values = {1}
        return {value: f"label {value}" for value in sorted(values)}
    try:
        names = json.loads(names_path.read_text(encoding="utf-8"))
        return {int(value): str(name) for value, name in names.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            "is not a table of label names", where=str(names_path), fix='write {"1": "calcium"}', code="BAD_LABEL"
        ) from error
