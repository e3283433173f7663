"""The tables and pictures of a drawing as files of their own: CSV with every digit, LaTeX, SVG."""

import csv
import io
from pathlib import Path

from apatite.core.commit import commit_bytes, commit_text
from apatite.core.volume import Estimate
from apatite.report.html import Section, Table
from apatite.report.latex import latex_table
from apatite.report.numbers import Cell


def write_parts(section: Section, folder: Path, name: str) -> list[Path]:
    """One CSV and one LaTeX file per table, one file per picture; a second one is numbered."""
    files: list[Path] = []
    for number, table in enumerate(section.tables, start=1):
        stem = name if number == 1 else f"{name}-{number}"
        for suffix, text in (("csv", table_csv(table)), ("tex", latex_table(table))):
            files.append(folder / f"{stem}.{suffix}")
            commit_text(files[-1], text)
    for number, picture in enumerate(section.figures, start=1):
        files.append(folder / f"{name if number == 1 else f'{name}-{number}'}.{picture.kind}")
        commit_bytes(files[-1], picture.content)
    return files


def table_csv(table: Table) -> str:
    """A table with every digit; an estimate takes three columns."""
    is_estimate = [any(isinstance(row[i], Estimate) for row in table.rows) for i in range(len(table.columns))]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    ends = ("", ", low", ", high")
    titles = [
        [name + end for end in ends] if wide else [name] for name, wide in zip(table.columns, is_estimate, strict=True)
    ]
    writer.writerow([title for group in titles for title in group])
    for row in table.rows:
        cells = [_csv_cells(cell, wide) for cell, wide in zip(row, is_estimate, strict=True)]
        writer.writerow([cell for group in cells for cell in group])
    return stream.getvalue()


def _csv_cells(cell: Cell, is_wide: bool) -> list[object]:
    if isinstance(cell, Estimate):
        return ["" if number != number else number for number in (cell.value, cell.low, cell.high)]
    shown = "" if cell is None or cell != cell else cell
    return [shown, "", ""] if is_wide else [shown]
