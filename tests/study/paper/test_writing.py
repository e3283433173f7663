"""What is written: pages, tables and pictures on disk, and the part of a page between its marks."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.core.volume import Estimate
from apatite.report.html import Table
from apatite.report.numbers import cell_text
from apatite.study.intervals import IntervalConfig
from apatite.study.paper.draw import DRAWINGS, draw, draw_records
from apatite.study.paper.evidence import evidence_markdown
from apatite.study.paper.files import table_csv
from apatite.study.paper.page import BEGIN, END, write_page, written_between
from apatite.study.paper.results import View, gather, studies


def add_main(sweep: Any, seeds: int = 2) -> None:
    for seed in range(seeds):
        sweep.add(sweep.noisy(0.62, 1, seed), calibrated=sweep.noisy(0.70, 2, seed), share=0.9, seed=seed)
        sweep.add(0.35, calibrated=sweep.noisy(0.40, 3, seed), seed=seed, init="scratch")
        sweep.add(sweep.noisy(0.60, 4, seed), share=1.3, seed=seed, arm="nnunet", flat=False)


def test_one_command_writes_every_file(stored: Any, tmp_path: Path):
    add_main(stored, 1)
    view = View(intervals=IntervalConfig(resamples=20))
    made = draw_records("all", [stored.folder], view, out=tmp_path / "drawn")
    assert made.num_records == 3
    assert made.studies == ("tier small",)
    assert all(path.is_file() and path.stat().st_size for path in made.files)
    names = {path.name for path in made.files}
    assert {f"{name}.csv" for name in DRAWINGS} | {f"{name}.tex" for name in DRAWINGS} <= names
    assert {"all.html", "main-2.csv", "main.svg", "strata-4.svg"} <= names
    page = (tmp_path / "drawn" / "all.html").read_text(encoding="utf-8")
    assert page.count("Table 2 of the paper.") == 1
    assert "(inferred)" in page
    assert "data: phantom" in page
    assert r"\begin{tabular}" in (tmp_path / "drawn" / "main.tex").read_text(encoding="utf-8")


def test_several_studies_do_not_overwrite_each_other(sweep: Any, tmp_path: Path):
    sweep.add(0.5)
    sweep.tier = "paper"
    sweep.add(0.5, seed=1)
    files = draw("splits", sweep.studies(), tmp_path)
    assert [path.name for path in files] == [
        "splits.html",
        "splits-1.csv",
        "splits-1.tex",
        "splits-2.csv",
        "splits-2.tex",
    ]


def test_the_table_on_disk_has_every_digit():
    estimate = Estimate(value=1 / 3, low=0.25, high=math.nan, unit="", coverage=0.95)
    table = Table(columns=("model", "Dice"), rows=[["a, b", estimate], ["c", None], ["d", "not run"]])
    rows = list(csv.reader(io.StringIO(table_csv(table))))
    assert rows == [
        ["model", "Dice", "Dice, low", "Dice, high"],
        ["a, b", "0.3333333333333333", "0.25", ""],
        ["c", "", "", ""],
        ["d", "not run", "", ""],
    ]
    assert cell_text(estimate) == "0.333"


def test_what_cannot_be_drawn_is_refused(stored: Any, tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'labels'"):
        draw_records("label", [stored.folder], stored.quick, out=tmp_path)
    with pytest.raises(ConfigError, match="nothing would be written"):
        draw_records("main", [stored.folder], stored.quick)
    with pytest.raises(ConfigError, match="no page"):
        draw_records("main", [stored.folder], stored.quick, page=tmp_path / "page.md")
    with pytest.raises(DataError, match="MISSING_FILE"):
        draw_records("evidence", [stored.folder], stored.quick, page=tmp_path / "page.md")


def test_the_evidence_of_a_page_is_written_between_its_marks(stored: Any, tmp_path: Path):
    add_main(stored, 3)
    page = tmp_path / "page.md"
    page.write_text(f"# Prose\n\n{BEGIN}\nwhat stood here\n{END}\n\nMore prose.\n", encoding="utf-8")
    made = draw_records("evidence", [stored.folder], stored.quick, page=page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Prose\n")
    assert text.endswith("\nMore prose.\n")
    assert "what stood here" not in text
    assert "**holds**" in text
    assert made.verdicts["tier small: pre-training"] == "holds"
    assert made.verdicts["tier small: nnU-Net"] == "not decidable"
    assert text.count("not decidable here: no annotated data are public") == 12
    # Every row of a table has as many cells as its head, whatever the headings hold.
    widths = {line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("| ")}
    assert widths == {5, 7}
    write_page(page, "new")
    assert f"{BEGIN}\n\nnew\n\n{END}" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_both_marks_in_order_is_refused(text: str):
    with pytest.raises(DataError, match="NO_MARKS"):
        written_between(text, "part")


def test_real_data_have_the_other_column(sweep: Any):
    real = {"domains": ["real"]}
    sweep.add(0.6, changes=real)
    sweep.add(0.5, init="scratch", changes=real)
    text = evidence_markdown(sweep.studies())
    assert "no annotated data are public" not in text
    assert "| not run | **not decidable**" in text


@pytest.mark.parametrize("domains", [["phantom", "real"], []])
def test_scans_of_unknown_or_mixed_origin_decide_nothing(sweep: Any, domains: list[str]):
    for seed in range(3):
        sweep.add(0.6, seed=seed, changes={"domains": domains})
        sweep.add(0.5, seed=seed, init="scratch", changes={"domains": domains})
    head, _, _ = evidence_markdown(sweep.studies()).partition("## Differences")
    assert "**holds**" not in head
    assert head.count("not of patients alone") == 12


def test_the_committed_page_is_what_the_committed_records_give():
    root = Path(__file__).resolve().parents[3]
    folder, page = root / "benchmarks" / "results" / "sweep", root / "docs" / "explanation" / "evidence.md"
    records = gather([folder]) if folder.is_dir() else []
    text = page.read_text(encoding="utf-8")
    expected = written_between(text, evidence_markdown(studies(records, View())))
    assert text == expected, (
        "run: apatite draw evidence -d benchmarks/results/sweep --page docs/explanation/evidence.md"
    )
