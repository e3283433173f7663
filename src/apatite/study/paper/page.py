"""The part of a page that is written from records, between two marks; all else in it is prose and stays."""

from pathlib import Path
from typing import Final

from apatite.core.commit import commit_text
from apatite.core.errors import DataError

BEGIN: Final = "<!-- written by `apatite draw evidence`: do not edit below -->"
END: Final = "<!-- end of what is written -->"


def written_between(page: str, part: str, where: str = "page") -> str:
    """A page with another part between its marks.

    Raises:
        DataError: the marks are not there once each and in order (`NO_MARKS`).
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise DataError(
            "does not hold both marks once and in order",
            where=where,
            fix=f"put {BEGIN} and {END} on lines of their own where the part belongs",
            code="NO_MARKS",
        )
    return f"{before}{BEGIN}\n\n{part.strip()}\n\n{END}{after}"


def write_page(path: Path, part: str) -> None:
    """Put a part between the marks of a page on disk.

    Raises:
        DataError: there is no such page (`MISSING_FILE`), or it has no marks (`NO_MARKS`).
    """
    if not path.is_file():
        raise DataError(
            "there is no such page", where=str(path), fix="make it, with both marks in it", code="MISSING_FILE"
        )
    commit_text(path, written_between(path.read_text(encoding="utf-8"), part, str(path)))
