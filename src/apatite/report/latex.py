r"""Tables for a paper: the same `Table` as on the page, as LaTeX with booktabs.

Whatever stands in a cell is text and is escaped; no cell can hold a command. Signs that LaTeX's usual fonts lack are
written as what they mean (`³` as a superscript, `−` as a minus); a letter of another script, which no usual font would
set, stands as its code point.
"""

import unicodedata
from collections.abc import Sequence
from typing import Final

from apatite.report.html import Table

HEAD: Final = "% Needs \\usepackage{booktabs} in the preamble.\n"

_SIGNS: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "\u00a0": "~",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "°": r"$^{\circ}$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≠": r"$\ne$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "δ": r"$\delta$",
    "Δ": r"$\Delta$",
    "κ": r"$\kappa$",
    "μ": r"$\mu$",
    "τ": r"$\tau$",
    "₊": r"$_{+}$",
    "₋": r"$_{-}$",
}
_LAST_LATIN = 0x17F
"""Up to here the usual fonts have every letter."""


def escape(text: str) -> str:
    """Text as LaTeX sets it, on one line."""
    return "".join(_sign(sign) for sign in " ".join(unicodedata.normalize("NFC", text).split()))


def latex_table(table: Table, *, label: str = "") -> str:
    r"""A table environment, complete with caption.

    Args:
        table: Headings, cells and caption.
        label: For `\ref`; letters, digits, `:` and `-`. No label when empty.

    Returns:
        Numbers are aligned to the right, rows in `bold_rows` are set in bold.

    Raises:
        ValueError: a label with other signs.
    """
    if label and not all(sign.isascii() and (sign.isalnum() or sign in ":-") for sign in label):
        raise ValueError(f"label {label!r} holds more than letters, digits, : and -")
    columns = "".join("r" if is_numeric else "l" for is_numeric in table.is_numeric)
    rows = [_row(row, is_bold=number in table.bold_rows) for number, row in enumerate(table.texts)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.caption)}}}",
        *([rf"\label{{{label}}}"] if label else []),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(table.columns),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str], *, is_bold: bool = False) -> str:
    texts = [escape(cell) for cell in cells]
    # A row that begins with a bracket would be read as an option of the line before.
    first = [f"{{{texts[0]}}}" if texts[0].startswith(("[", "*")) else texts[0]] if texts else []
    texts = [*first, *texts[1:]]
    return " & ".join(rf"\textbf{{{text}}}" if is_bold and text else text for text in texts) + r" \\"


def _sign(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    if ord(sign) < 32 or ord(sign) > _LAST_LATIN or 127 <= ord(sign) < 0xA0:
        return f"[U+{ord(sign):04X}]"
    return sign
