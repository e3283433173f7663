"""The files of a comparison: they read back, they agree with each other, and nothing in them is active."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from apatite.calcium.burden import deployed_cuts
from apatite.report.latex import HEAD
from apatite.study.compare.comparison import Comparison, compare
from apatite.study.compare.config import CompareConfig
from apatite.study.compare.figures import forest_picture, strata_picture
from apatite.study.compare.tables import comparison_tables, difference_table, level_table, margin_table, p_text
from apatite.study.compare.write import tables_tex, write_comparison
from apatite.study.intervals import IntervalConfig
from apatite.study.outcome_table import read_outcomes

HOSTILE = '<img src="https://example.org/x" onerror=alert(1)> & 100 % \\input{x}'
CUTS = deployed_cuts(np.array([2.0, 4.0, 6.0, 8.0]), np.array([1.0]), 1.0)
DEPLOYED = {name: {None: CUTS} for name in ("plain", HOSTILE)}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    from apatite.study.outcomes import CaseOutcome

    def case(number: int, found: int, extra: int) -> CaseOutcome:
        lesions = {"lesions_reference": 2, "lesions_found": 1, "lesions_predicted": 2, "lesions_true": 1}
        return CaseOutcome(
            case_id=f"c{number}", patient_id=f"p{number // 2}", label=1, true_positive=found, false_positive=extra,
            false_negative=20 - found, true_negative=900,
            predicted_mm3=0.5 * (found + extra), reference_mm3=10.0 + number,
            slice_thickness_mm=(1.0, 5.0)[number % 2], kernel_class="soft", surface_dice=0.8 + 0.01 * (number % 5),
            hd95_mm=30.0 - found - 0.1 * number, betti_error=extra + number % 3, **lesions,
        )  # fmt: skip

    plain = [case(n, 10 + n % 4, n % 3) for n in range(14)]
    other = [case(n, 13 + n % 5, n % 2) for n in range(14)]
    return compare(
        {"plain": plain, HOSTILE: other},
        CompareConfig(intervals=IntervalConfig(resamples=60)),
        label_names={1: "calcium"},
        deployed=DEPLOYED,
    )


def test_the_files_are_written_and_agree(comparison: Comparison, tmp_path: Path) -> None:
    page = write_comparison(
        comparison, tmp_path / "out", provenance={"seed": 0}, domains=("phantom",), deployed=DEPLOYED
    )
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "cases.csv", "compare.html", "compare.json", "differences.csv", "strata.csv", "table.tex",
    ]  # fmt: skip
    assert read_outcomes(page.parent / "cases.csv") == {name: list(rows) for name, rows in comparison.outcomes.items()}
    values = json.loads((page.parent / "compare.json").read_text())
    rows = list(csv.DictReader((page.parent / "differences.csv").read_text().splitlines()))
    assert len(rows) == len(values["differences"]) == 8
    for row, value, found, p_holm in zip(
        rows, values["differences"], comparison.contrasts, comparison.p_holm, strict=True
    ):
        assert float(row["difference"]) == value["difference"]["value"] == found.estimate.value
        assert float(row["low"]) == value["difference"]["low"] == found.estimate.low
        assert float(row["p_holm"]) == value["p_holm"] == p_holm
        assert row["verdict"] == (value["verdict"] or "")
    strata = list(csv.DictReader((page.parent / "strata.csv").read_text().splitlines()))
    assert len(strata) == len(values["strata"]) == len(comparison.strata)
    assert {row["stratum"] for row in strata} >= {"slice thickness ≤ 1.5 mm", "kernel soft", "volume quartile 4"}
    assert [entry["model"] for entry in values["deployed"]] == ["plain", HOSTILE]
    assert [group["definition"] for group in values["burden_groups"]] == ["paper", "deployed"]
    assert values["family_sizes"] == [{"hu_gate": None, "tests": 8}]


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        assert not [key for key, _ in attrs if key.startswith("on")]


def test_the_page_fetches_nothing_and_says_how(comparison: Comparison, tmp_path: Path) -> None:
    text = write_comparison(comparison, tmp_path, provenance={}, domains=("phantom",)).read_text()
    page = Page()
    page.feed(text)
    assert not {"script", "iframe", "object", "link", "form"} & page.tags
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    for said in ("corrected over the 8", "Wilcoxon", "BCa, 60 resamples", "McNemar", "Strata", "not a medical device"):
        assert said in text, said


def test_the_table_for_a_paper_is_escaped_and_complete(comparison: Comparison) -> None:
    text = tables_tex(comparison)
    assert text.startswith(HEAD)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert r"\input" not in text
    assert r"\textbackslash{}input\{x\}" in text
    for said in ("7 patients", "BCa, 60 resamples", "corrected over the 8 tests", r"\label{tab:comparison}"):
        assert said in text, said
    rows = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(rows) == 8
    assert all(row.replace(r"\&", "").count("&") == 9 and row.endswith(r"\\") for row in rows)


def test_tables_say_who_how_many_and_how_sure(comparison: Comparison) -> None:
    table = difference_table(comparison, (1, None))
    assert [row[1] for row in table.texts] == [
        "Dice", "precision", "recall", "|ΔV| (mm³)", "lesion F1", "surface Dice", "HD95 (mm)", "Betti error",
    ]  # fmt: skip
    assert [row[0] for row in table.texts][1:] == [""] * 7
    # 13 + n % 5 found instead of 10 + n % 4, and an HD95 smaller by as much: 5.43 − 1.36 − 3 and so on.
    assert (table.texts[6][2:4], table.rows[6][4], table.rows[6][5]) == (
        ["14", "7"], pytest.approx(30 - 10 - 19 / 14 - 0.65), pytest.approx(30 - 13 - 26 / 14 - 0.65),
    )  # fmt: skip
    assert "HD95 of a case in which nothing was found" in table.caption
    # Extra voxels and n % 3 are 0, 1, 2 in turn: twice 13/14.
    assert (table.texts[7][1], table.texts[7][4]) == ("Betti error", "1.86")
    assert table.texts[0][2:4] == ["14", "7"]
    margins = margin_table(comparison, (1, None))
    assert margins is not None
    assert [row[1:3] for row in margins.texts] == [["Dice", "0.0200"], ["|ΔV| (mm³)", "10.0"]]
    assert "trainings" not in level_table(comparison, (1, None)).columns
    assert len(comparison_tables(comparison)) == 1
    assert [p_text(p) for p in (0.0004, 0.0042, 0.0449, 0.5, 1.0, float("nan"))] == [
        "< 0.001", "0.0042", "0.045", "0.50", "1.00", "–",
    ]  # fmt: skip


def test_the_figures_name_every_row(comparison: Comparison) -> None:
    forest, strata = forest_picture(comparison, (1, None)), strata_picture(comparison, (1, None), "dice")
    assert forest is not None
    assert strata is not None
    assert forest.content.startswith(b"<?xml")
    assert "7 patients" in forest.caption
    for name in ("Dice", "lesion F1", "surface Dice", "HD95 (mm)", "Betti error"):
        assert name in forest.alt
    assert "quartile 4" in strata.alt
    alone = compare({"plain": comparison.outcomes["plain"]}, comparison.config)
    assert forest_picture(alone, (1, None)) is None
    assert strata_picture(alone, (1, None), "dice") is None
