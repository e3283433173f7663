"""The table of outcomes reads back exactly, and whatever is not one is refused by line and column."""

import csv
import gzip
import io
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.study.outcome_table import DERIVED, LATER, outcomes_csv, read_outcomes
from apatite.study.outcomes import CaseOutcome

NUMBER = st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.integers(0, 10**12)
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)


@st.composite
def any_outcome(draw: st.DrawFn) -> CaseOutcome:
    values: dict[str, object] = {}
    for field in fields(CaseOutcome):
        kind = {int: COUNT, float: NUMBER, str: TEXT, int | None: st.none() | COUNT}.get(field.type, st.none() | NUMBER)  # pyright: ignore[reportArgumentType, reportCallIssue]
        values[field.name] = draw(kind)
    return CaseOutcome(**values)  # pyright: ignore[reportArgumentType]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(TEXT, st.lists(any_outcome(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_whatever_was_written_reads_back_exactly(tmp_path: Path, outcomes: dict[str, list[CaseOutcome]]) -> None:
    (tmp_path / "cases.csv").write_bytes(outcomes_csv(outcomes).encode())
    with gzip.open(tmp_path / "cases.csv.gz", "wb") as file:
        file.write(outcomes_csv(outcomes).encode())
    assert read_outcomes(tmp_path / "cases.csv") == outcomes
    assert list(read_outcomes(tmp_path / "cases.csv.gz")) == list(outcomes)


def table(outcomes: dict[str, list[CaseOutcome]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(outcomes_csv(outcomes))))


def rewritten(tmp_path: Path, rows: list[dict[str, str]]) -> Path:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "cases.csv").write_text(stream.getvalue())
    return tmp_path / "cases.csv"


def test_people_find_the_ratios_beside_the_counts(four_cases: list[CaseOutcome]) -> None:
    rows = {row["case_id"]: row for row in table({"m": four_cases})}
    assert (rows["a"]["dice"], rows["a"]["precision"], rows["c"]["precision"]) == ("0.750000", "0.750000", "")
    assert math.isclose(float(rows["b"]["dice"]), 2 / 3, abs_tol=1e-6)
    assert rows["d"]["recall"] == ""


def test_tables_of_earlier_versions_lack_what_was_not_known_then(tmp_path: Path, four_cases) -> None:
    rows = [{key: value for key, value in row.items() if key not in LATER} for row in table({"m": four_cases})]
    assert read_outcomes(rewritten(tmp_path, rows)) == {"m": four_cases}
    without = [{key: value for key, value in row.items() if key not in DERIVED} for row in rows]
    assert read_outcomes(rewritten(tmp_path, without)) == {"m": four_cases}
    known = [replace(o, surface_dice=0.5, hd95_mm=1.5, betti_error=2) for o in four_cases]
    before_hd95 = [{k: v for k, v in row.items() if k not in ("hd95_mm", "betti_error")} for row in table({"m": known})]
    expected = [replace(o, surface_dice=0.5) for o in four_cases]
    assert read_outcomes(rewritten(tmp_path, before_hd95)) == {"m": expected}


@pytest.mark.parametrize("column", ["model", "case_id", "true_positive", "hu_gate", "vendor"])
def test_a_missing_column_is_refused(tmp_path: Path, four_cases, column: str) -> None:
    rows = [{key: value for key, value in row.items() if key != column} for row in table({"m": four_cases})]
    with pytest.raises(DataError, match=f"column '{column}' is missing") as caught:
        read_outcomes(rewritten(tmp_path, rows))
    assert caught.value.code == "BAD_TABLE"


def test_an_unknown_column_is_refused_with_the_nearest(tmp_path: Path, four_cases) -> None:
    rows = [{**row, "kernel_clas": "soft"} for row in table({"m": four_cases})]
    with pytest.raises(DataError, match="column 'kernel_clas' is unknown") as caught:
        read_outcomes(rewritten(tmp_path, rows))
    assert "kernel_class" in caught.value.fix


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("true_positive", "3.0"), ("true_positive", ""), ("false_negative", "-1"), ("lesions_found", "-2"),
        ("predicted_mm3", "nan"), ("reference_mm3", "inf"), ("predicted_mm3", ""), ("hu_gate", "none"),
        ("surface_dice", "1,0"), ("label", "calcium"), ("hd95_mm", "inf"), ("betti_error", "1.0"),
        ("betti_error", "-1"),
    ],
)  # fmt: skip
def test_a_senseless_cell_is_refused_by_line_and_column(tmp_path: Path, four_cases, column: str, text: str) -> None:
    rows = table({"m": four_cases})
    rows[1][column] = text
    with pytest.raises(DataError, match=rf"line 3: {column} is") as caught:
        read_outcomes(rewritten(tmp_path, rows))
    assert caught.value.code == "BAD_TABLE"


def test_what_is_no_table_is_refused(tmp_path: Path, four_cases) -> None:
    contents = {
        "BAD_TABLE": [
            b"",
            b"\xff\xfe",
            b'model,"case',
            b"model,model\n",
            outcomes_csv({"m": four_cases})[:-9].encode(),
        ],
        "NO_CASES": [outcomes_csv({}).encode()],
    }
    for code, files in contents.items():
        for content in files:
            (tmp_path / "cases.csv").write_bytes(content)
            with pytest.raises(DataError) as caught:
                read_outcomes(tmp_path / "cases.csv")
            assert (caught.value.code, str(tmp_path) in caught.value.where) == (code, True)
    with pytest.raises(DataError) as caught:
        read_outcomes(tmp_path / "other.csv")
    assert caught.value.code == "MISSING_FILE"
    (tmp_path / "cases.csv.gz").write_bytes(b"model")
    with pytest.raises(DataError) as caught:
        read_outcomes(tmp_path / "cases.csv.gz")
    assert caught.value.code == "BAD_TABLE"


def test_a_column_that_stands_twice_is_refused(tmp_path: Path, four_cases) -> None:
    lines = outcomes_csv({"m": four_cases}).splitlines()
    (tmp_path / "cases.csv").write_text(
        "\n".join(f"{line},{'case_id' if not n else 'x'}" for n, line in enumerate(lines))
    )
    with pytest.raises(DataError, match="stands twice"):
        read_outcomes(tmp_path / "cases.csv")


def test_a_table_that_unpacks_to_more_than_it_may_is_refused(tmp_path: Path, monkeypatch, four_cases) -> None:
    from apatite.study import outcome_table

    monkeypatch.setattr(outcome_table, "MAX_BYTES", 200)
    with gzip.open(tmp_path / "cases.csv.gz", "wb") as file:
        file.write(outcomes_csv({"m": four_cases}).encode())
    with pytest.raises(DataError) as caught:
        read_outcomes(tmp_path / "cases.csv.gz")
    assert caught.value.code == "TOO_LARGE"


def test_no_cell_is_a_formula(make_outcome, tmp_path):
    row = replace(make_outcome("a", 1, 0, 0), patient_id="=1+1", vendor="@x", kernel_class="'soft")
    text = outcomes_csv({"-model": [row]})
    cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
    assert not any(cell.startswith(("=", "@", "-m")) for cell in cells)
    (tmp_path / "cases.csv").write_text(text, encoding="utf-8")
    assert read_outcomes(tmp_path / "cases.csv") == {"-model": [row]}
