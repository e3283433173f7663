import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from apatite.calcium.burden import deployed_cuts
from apatite.study.evaluate import EvaluateConfig, Evaluation, evaluate
from apatite.study.intervals import IntervalConfig
from apatite.study.outcomes import CaseOutcome
from apatite.study.write import cases_csv, nnunet_summary, summary_json, write_evaluation

QUICK = EvaluateConfig(intervals=IntervalConfig(resamples=60))
HOSTILE = '<img src="https://example.org/x" onerror=alert(1)>'


@pytest.fixture
def evaluation(four_cases: list[CaseOutcome], make_outcome) -> Evaluation:
    more = [make_outcome(f"e{i}", 10 + i, i % 4, 3, slice_thickness_mm=3.0, kernel_class="soft") for i in range(8)]
    ungated = [*four_cases, *more]
    rows = ungated + [replace(o, hu_gate=130.0) for o in ungated]
    cuts = deployed_cuts(np.array([2.0, 4.0, 6.0, 8.0]), np.array([1.0]), 1.0)
    return evaluate(
        {"scratch": rows, HOSTILE: rows},
        QUICK,
        label_names={1: "calcium"},
        deployed={"scratch": {None: cuts, 130.0: cuts}},
    )


def test_the_three_files_are_written_and_read_back(evaluation: Evaluation, tmp_path: Path):
    page = write_evaluation(evaluation, tmp_path / "evaluation", provenance={"seed": 0}, domains=("phantom",))
    assert sorted(path.name for path in page.parent.iterdir()) == ["cases.csv", "report.html", "summary.json"]

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is not JSON")

    values = json.loads((page.parent / "summary.json").read_text(), parse_constant=refuse)
    assert {"metric_per_case", "mean", "foreground_mean", "apatite"} == set(values)
    assert values["apatite"]["models"] == ["scratch", HOSTILE]


def test_nnunet_keys_by_hand(four_cases: list[CaseOutcome]):
    summary = nnunet_summary(four_cases, {"a": ("pred/a.nii.gz", "ref/a.nii.gz")})
    first, free = summary["metric_per_case"][0], summary["metric_per_case"][3]
    assert first["metrics"]["1"] == {
        "Dice": 0.75, "IoU": 0.6, "TP": 6, "FP": 2, "FN": 2, "TN": 990, "n_pred": 8, "n_ref": 8,
    }  # fmt: skip
    assert (first["prediction_file"], first["reference_file"]) == ("pred/a.nii.gz", "ref/a.nii.gz")
    assert free["metrics"]["1"]["Dice"] == 0.0
    assert summary["mean"]["1"]["Dice"] == pytest.approx((0.75 + 2 / 3 + 0 + 0) / 4)
    assert summary["mean"]["1"]["TP"] == 4.0
    assert summary["foreground_mean"] == summary["mean"]["1"]


def test_nnunet_means_skip_what_is_undefined(make_outcome):
    rows = [
        make_outcome("a", 0, 0, 0, label=1),
        make_outcome("a", 5, 0, 0, label=2),
        make_outcome("b", 5, 0, 5, label=1),
        make_outcome("c", 0, 0, 0, label=3),
    ]
    summary = nnunet_summary(rows, {})
    assert summary["metric_per_case"][0]["metrics"]["1"]["Dice"] is None
    assert set(summary["metric_per_case"][1]["metrics"]) == {"1"}
    assert summary["mean"]["1"]["Dice"] == pytest.approx(2 / 3)
    assert summary["mean"]["3"]["Dice"] is None
    assert summary["foreground_mean"]["Dice"] == pytest.approx((2 / 3 + 1) / 2)


def test_the_primary_model_without_gate_stands_under_the_nnunet_keys(evaluation: Evaluation):
    values = summary_json(evaluation, {})
    assert len(values["metric_per_case"]) == 12
    assert values["apatite"]["primary"] == HOSTILE


def test_the_cases_are_enough_to_recompute_a_mean(evaluation: Evaluation):
    rows = list(csv.DictReader(cases_csv(evaluation).splitlines()))
    assert len(rows) == 2 * 2 * 12
    chosen = [row for row in rows if row["model"] == "scratch" and row["hu_gate"] == ""]
    dice = [float(row["dice"]) for row in chosen if int(row["true_positive"]) + int(row["false_negative"]) > 0]
    assert np.mean(dice) == pytest.approx(evaluation.of(1, None)["scratch"].estimates["dice"].value, abs=1e-6)
    assert next(row for row in chosen if row["case_id"] == "c")["precision"] == ""


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = {key: value or "" for key, value in attrs}
        self.addresses += [values[key] for key in ("src", "href", "srcset", "action", "data") if key in values]
        self.handlers += [key for key in values if key.startswith("on") or key == "style"]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


def test_the_page_escapes_what_it_is_given_and_fetches_nothing(evaluation: Evaluation, tmp_path: Path):
    text = write_evaluation(evaluation, tmp_path, provenance={HOSTILE: HOSTILE}, domains=(HOSTILE,)).read_text()
    page = Page()
    page.feed(text)
    assert not {"script", "iframe", "object", "embed", "link", "form"} & set(page.tags)
    assert not page.handlers
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert "default-src 'none'" in page.policy
    assert "unsafe" not in page.policy
    assert "&lt;img src=" in text


def test_surfaces_and_topology_stand_in_every_file(make_outcome, tmp_path: Path):
    rows = [make_outcome(f"c{n}", 5 + n, 1, 3, hd95_mm=1.0 + n, betti_error=n % 3) for n in range(6)]
    better = [replace(o, hd95_mm=0.5 * (o.hd95_mm or 0), betti_error=0) for o in rows]
    page = write_evaluation(evaluate({"old": rows, "new": better}, QUICK), tmp_path, provenance={})
    text = page.read_text()
    assert text.count("HD95 (mm)") >= 2
    assert text.count("Betti error") >= 2
    values = json.loads((tmp_path / "summary.json").read_text())["apatite"]
    of_all = [s for s in values["summaries"] if s["stratum"] == "all cases"]
    assert [s["estimates"]["hd95_mm"]["value"] for s in of_all] == [3.5, 1.75]
    assert [s["estimates"]["hd95_mm"]["unit"] for s in of_all] == ["mm", "mm"]
    assert [s["estimates"]["betti_error"]["value"] for s in of_all] == [1.0, 0.0]
    found = {d["quantity"]: d["estimate"] for d in values["differences"]}
    assert (found["hd95_mm"]["value"], found["betti_error"]["value"]) == (-1.75, -1.0)
    assert found["hd95_mm"]["high"] < 0
    lines = list(csv.DictReader((tmp_path / "cases.csv").read_text().splitlines()))
    assert [(line["hd95_mm"], line["betti_error"]) for line in lines[:2]] == [("1.0", "0"), ("2.0", "1")]


def test_the_page_speaks_of_burden_groups_and_of_research_use_only(evaluation: Evaluation, tmp_path: Path):
    text = write_evaluation(evaluation, tmp_path, provenance={}, domains=("phantom",)).read_text()
    assert "not a medical device" in text
    assert "Burden groups" in text
    assert "stroke" not in text.lower()
    assert "data: phantom" in text
