"""The reviewers' table: the latest row holds, everything else is refused by name, and nothing runs in a spreadsheet."""

from pathlib import Path

import pytest

from apatite.core.errors import DataError
from apatite.ct.decisions import Decision, apply_decisions, latest, read_decisions, write_decisions

HEADER = "case_id,decision,reason,who,when\n"


def decision(case_id: str, what: str, when: str, reason: str = "upside down") -> Decision:
    return Decision(case_id=case_id, decision=what, reason=reason, who="r1", when=when)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_latest_row_holds_wherever_it_stands(tmp_path: Path) -> None:
    path = write(
        tmp_path / "decisions.csv",
        HEADER
        + "a,reject,blurred,r1,2026-03-02T10:00:00+00:00\n"
        + "a,keep,,r2,2026-03-01\n"  # earlier, though below
        + "b,reject,metal,r1,2026-03-01T10:00:00+02:00\n"
        + "b,keep,no,r2,2026-03-01T08:00:00\n"  # the same moment: the lower row
        + "\n"
        + "c,keep,,r2,2026-03-01T08:00:00Z\n",
    )
    decisions = read_decisions(path)
    assert [row.case_id for row in decisions] == ["a", "a", "b", "b", "c"]
    assert {name: row.decision for name, row in latest(decisions).items()} == {"a": "reject", "b": "keep", "c": "keep"}
    assert apply_decisions(decisions, ["c", "b", "a", "d"]) == {"a": "REJECTED"}


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "when,who,reason,decision,case_id\n2026-03-01,r1,why,reject,a\n")
    assert read_decisions(path) == (decision("a", "reject", "2026-03-01", "why"),)


def test_a_decision_about_an_unknown_case_is_named() -> None:
    with pytest.raises(DataError, match=r"unknown case 'head-11'.*head-01") as error:
        apply_decisions([decision("head-11", "keep", "2026-03-01")], ["head-01", "tail-7"])
    assert error.value.code == "CASES_DIFFER"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "other columns"),
        ("case_id,decision,reason,who\na,keep,,r1\n", "other columns"),
        (HEADER.strip() + ",note\na,keep,,r1,2026-03-01,x\n", "other columns"),
        (HEADER + "a,keep,,r1\n", "row 2.*4 cells"),
        (HEADER + "a,drop,,r1,2026-03-01\n", "row 2 a.*unknown decision 'drop'"),
        (HEADER + "a,Reject,why,r1,2026-03-01\n", "unknown decision 'Reject'"),
        (HEADER + "a,reject,,r1,2026-03-01\n", "has no reason"),
        (HEADER + ",keep,,r1,2026-03-01\n", "has no case_id"),
        (HEADER + "a,keep,,,2026-03-01\n", "has no who"),
        (HEADER + "a,keep,,r1,\n", "has no usable time"),
        (HEADER + "a,keep,,r1,yesterday\n", "has no usable time"),
        (HEADER + f"a,keep,{'x' * 501},r1,2026-03-01\n", "more than 500"),
        (HEADER + 'a,keep,"x" y,r1,2026-03-01\n', "cannot be read as a CSV"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_decisions(write(tmp_path / "decisions.csv", text))


def test_a_table_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_decisions(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_decisions(tmp_path / "b.csv")


def test_what_is_written_is_read_again_and_is_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    rows = (
        decision("a", "reject", "2026-03-01", '=HYPERLINK("x"), "quoted"'),
        decision("b", "keep", "2026-03-01T01:02:03+00:00", "'already"),
    )
    write_decisions(path, rows)
    assert read_decisions(path) == rows
    assert ",=" not in path.read_text() and ',"=' not in path.read_text()
