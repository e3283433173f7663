"""One page made of sections: text, tables and pictures, in a single file that needs no network.

Everything that reports (evaluation, demonstration, phantom checks) builds `Section`s and calls `render_report`. Text
is escaped by the template engine; the page carries a content security policy that forbids scripts and every fetch.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from apatite.report.numbers import Cell, cell_text, is_number

BANNER = (
    "Research prototype – not a medical device, not cleared, CE-marked or UKCA-marked. Outputs must not be used for "
    "diagnosis, treatment or patient management. Calcium volumes depend on the scan protocol; a burden group is a "
    "statistical rank in the reference cohort, not an individual risk."
)

DOMAIN_NOTES = {
    "phantom": "Simulated scans whose truth is known exactly; figures do not carry over to patients.",
    "real": "Scans of patients; the reference is a reader's annotation.",
}

_TEMPLATES = Path(__file__).parent / "templates"
_MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image with its caption.

    Attributes:
        content: The encoded image.
        kind: How it is encoded.
        caption: What it shows, with the number of cases.
        alt: The same for those who cannot see it.
        width_px: Width on the page; the image's own when None.
    """

    content: bytes
    kind: Literal["png", "svg"]
    caption: str
    alt: str
    width_px: int | None = None

    @property
    def data_uri(self) -> str:
        """The image as a `data:` address; inside one, an SVG can neither run scripts nor fetch anything."""
        return f"data:{_MEDIA_TYPES[self.kind]};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under headings.

    Attributes:
        columns: Headings, with units where the column has one.
        rows: One cell per heading; see `numbers.Cell`.
        caption: What the table shows, and how it was computed.
        bold_rows: Indices of rows to stress.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    bold_rows: Sequence[int] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} headings: {row!r}")

    @property
    def texts(self) -> list[list[str]]:
        """The cells as they are shown."""
        return [[cell_text(cell) for cell in row] for row in self.rows]

    @property
    def is_numeric(self) -> list[bool]:
        """Which columns hold numbers; these are aligned to the right."""
        return [bool(self.rows) and all(is_number(row[i]) for row in self.rows) for i in range(len(self.columns))]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a page.

    Attributes:
        title: Heading.
        text: Paragraphs.
        points: A list after the paragraphs.
        tables: Shown after the text.
        figures: Shown after the tables.
    """

    title: str
    text: Sequence[str] = ()
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = ()


def render_report(
    title: str,
    sections: Sequence[Section],
    provenance: Mapping[str, Cell],
    *,
    domains: Sequence[str] = (),
    subtitle: str = "",
) -> str:
    """The page as HTML text.

    Args:
        title: Heading of the page.
        sections: Its parts, in order.
        provenance: What made it: data, seeds, models, versions; the package's own version is added.
        domains: Where the data come from (`phantom`, `real`, …); shown beside the title.
        subtitle: One sentence under the title.

    Returns:
        A self-contained document: no script, no address to fetch.
    """
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            sections=sections,
            provenance={**{key: cell_text(value) for key, value in provenance.items()}, "apatite": version("apatite")},
            domains=[(domain, DOMAIN_NOTES.get(domain, "")) for domain in domains],
            banner=BANNER,
            policy=policy,
            # The style is our own file; escaping it would break its selectors and its digest.
            style=Markup(style),  # noqa: S704
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
