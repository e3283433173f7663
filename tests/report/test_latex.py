"""LaTeX that a strict reader can read: every group closed, every row as wide as the columns, nothing unescaped."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.core.volume import Estimate
from apatite.report.html import Table
from apatite.report.latex import escape, latex_table

COMMANDS = {
    "begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "textbf", "textbackslash",
    "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "textquotedbl", "textsuperscript",
    "ldots", "pm", "times", "cdot", "le", "ge", "ne", "approx", "infty", "surd", "circ", "alpha", "beta", "delta",
    "Delta", "kappa", "mu", "tau",
}  # fmt: skip
TOKEN = re.compile(
    r"\\(?P<command>[A-Za-z]+)|\\(?P<sign>[^A-Za-z])|(?P<special>[{}$&#%_^~\\])|(?P<text>[^{}$&#%_^~\\]+)"
)


def read(text: str) -> list[list[str]]:
    """The cells of every row of a tabular; fails on anything that TeX would stumble over."""
    rows: list[list[str]] = []
    cells, depth, in_maths = [""], 0, False
    for found in TOKEN.finditer(text):
        command, sign, special = found["command"], found["sign"], found["special"]
        assert command is None or command in COMMANDS, command
        assert sign is None or sign in "\\{}$&#%_", sign
        if special == "{":
            depth += 1
        elif special == "}":
            depth -= 1
        elif special == "$":
            in_maths = not in_maths
        elif special == "&":
            assert depth == 0
            cells.append("")
        elif special in ("_", "^"):
            assert in_maths
        else:
            assert special in (None, "~"), special
        if sign == "\\":
            assert depth == 0
            rows.append([cell.strip() for cell in cells])
            cells = [""]
        elif special != "&":
            cells[-1] += found[0]
        assert depth >= 0
    assert (depth, in_maths, cells[-1].strip()) == (0, False, "")
    assert sum(len(found[0]) for found in TOKEN.finditer(text)) == len(text)
    return rows


def body(latex: str) -> tuple[str, str, str]:
    """Caption, column letters and the rows between the rules."""
    found = re.fullmatch(
        r"\\begin\{table\}\n\\centering\n\\caption\{([^\n]*)\}\n(?:\\label\{([a-z0-9:-]+)\}\n)?\\begin\{tabular\}\{([lr]*)\}\n"
        r"\\toprule\n(.*)\n\\midrule\n(.*)\n?\\bottomrule\n\\end\{tabular\}\n\\end\{table\}\n",
        latex,
        flags=re.DOTALL,
    )
    assert found, latex
    return found[1], found[3], f"{found[4]}\n{found[5]}"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_any_text_makes_a_table_that_can_be_read(caption: str, heading: str, cell: str) -> None:
    table = Table(columns=(heading, "n"), rows=[[cell, 3], ["x", 12]], caption=caption, bold_rows=(1,))
    shown, columns, rows = body(latex_table(table, label="tab:x-1"))
    assert columns == "lr"
    assert "\n" not in shown
    read(shown + r" \\")
    cells = read(rows)
    assert [len(row) for row in cells] == [2, 2, 2]
    assert cells[1][1] == "3"
    assert cells[2] == [r"\textbf{x}", r"\textbf{12}"]
    assert rows.isascii() or all(ord(sign) <= 0x17F for sign in rows)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50 % & more_or $less #1", r"50 \% \& more\_or \$less \#1"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("|ΔV| (mm³) ≤ −3 … ±2", r"\textbar{}$\Delta$V\textbar{} (mm\textsuperscript{3}) $\le$ $-$3 \ldots{} $\pm$2"),
        ("Müller–Straße", "Müller--Straße"),
        ("two\nlines\t~^", r"two lines \textasciitilde{}\textasciicircum{}"),
        ("钙 \x07", "[U+9499] [U+0007]"),
        ("“p”", "``p''"),
    ],
)
def test_signs_by_hand(text: str, latex: str) -> None:
    assert escape(text) == latex


def test_estimates_read_as_on_the_page() -> None:
    estimate = Estimate(value=-0.031, low=-0.06, high=0.002, unit="", coverage=0.95)
    _, columns, rows = body(latex_table(Table(columns=("m", "Dice"), rows=[["a", estimate], ["b", None]])))
    assert columns == "lr"
    assert read(rows)[1:] == [["a", r"$-$0.0310 [$-$0.0600; 0.0020]"], ["b", "--"]] or read(rows)[1][1].startswith(
        "$-$0.03"
    )


def test_a_bracket_at_the_start_of_a_row_is_no_option() -> None:
    _, _, rows = body(latex_table(Table(columns=("a", "b"), rows=[["[1]", "x"], ["*", "y"]])))
    assert [row[0] for row in read(rows)[1:]] == ["{[1]}", "{*}"]


def test_a_label_with_other_signs_is_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        latex_table(Table(columns=("a",), rows=[["x"]]), label="tab_1")
