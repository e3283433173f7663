from dataclasses import replace

import pytest

from apatite.study.evaluate import EvaluateConfig, Evaluation, evaluate
from apatite.study.intervals import IntervalConfig
from apatite.study.outcomes import CaseOutcome
from apatite.study.tables import (
    analytic_table,
    comparison_table,
    difference_table,
    free_table,
    labels_table,
    shape_table,
    strata_table,
)

QUICK = EvaluateConfig(intervals=IntervalConfig(resamples=40, method="percentile"))


@pytest.fixture
def evaluation(four_cases: list[CaseOutcome]) -> Evaluation:
    gated = [replace(o, hu_gate=130.0) for o in four_cases]
    return evaluate({"old": four_cases + gated, "new": four_cases + gated}, QUICK, label_names={1: "calcium"})


def test_the_caption_says_what_was_averaged_and_what_was_left_out(evaluation: Evaluation):
    ungated, gated = (comparison_table(evaluation, 1, gate) for gate in (None, 130.0))
    assert "3 cases" in ungated.caption
    assert "old: 1 without any prediction" in ungated.caption
    assert "percentile, 40 resamples" in ungated.caption
    assert "130 HU" in gated.caption
    assert [row[0] for row in ungated.rows] == ["old", "new"]
    assert ungated.texts[0][1].startswith("0.47")  # Dice (0.75 + 0.667 + 0) / 3


def test_a_model_does_not_differ_from_itself(evaluation: Evaluation):
    table = difference_table(evaluation, 1, None)
    assert table.texts == [["new − old", *["0.00 [0.00; 0.00]"] * 4]]


def test_surfaces_and_topology_have_their_table_and_say_what_was_filled_in(make_outcome):
    rows = [
        make_outcome("a", 6, 2, 2, hd95_mm=1.5, betti_error=3, surface_dice=0.5),
        make_outcome("b", 0, 0, 4, hd95_mm=90.0, betti_error=1, surface_dice=0.0),
    ]
    better = [
        replace(rows[0], hd95_mm=1.0, betti_error=0),
        replace(rows[1], true_positive=4, false_negative=0, hd95_mm=2.0),
    ]
    found = evaluate({"old": rows, "new": better}, QUICK)
    table = shape_table(found, 1, None)
    assert table.columns == ("model", "surface Dice", "HD95 (mm)", "Betti error")
    assert [table.rows[0][n].value for n in (1, 2, 3)] == [0.25, 45.75, 2.0]
    assert "old: 1 without any prediction, which has the region's span as its HD95." in table.caption
    assert "new: " not in table.caption
    differences = difference_table(found, 1, None, ("hd95_mm", "betti_error"))
    assert [cell.value for cell in differences.rows[0][1:]] == [1.5 - 45.75, 0.5 - 2.0]
    assert differences.rows[0][0] == "new − old"


def test_strata_name_each_subset_once(evaluation: Evaluation):
    texts = strata_table(evaluation, 1, None).texts
    assert [row[0] for row in texts[::2]] == [
        "all cases", "≤ 1.5 mm", "3.5–6 mm", "> 6 mm", "kernel soft", "kernel bone",
    ]  # fmt: skip
    # Slices above 6 mm hold no calcium: no Dice, but a false volume.
    thick = texts[6]
    assert thick[2:7] == ["0", "–", "–", "–", "1"]
    assert thick[7] == "3.00"


def test_cases_without_calcium_have_their_own_table(evaluation: Evaluation):
    table = free_table(evaluation, 1, None)
    assert "1 cases in which the reference marks nothing" in table.caption
    assert table.texts[0][1:] == ["3.00", "3.00", "0.00"]


def test_the_analytic_volume_stands_beside_the_reference(four_cases: list[CaseOutcome], evaluation: Evaluation):
    assert analytic_table(evaluation, 1, None) is None
    known = [replace(o, analytic_mm3=o.reference_mm3 + 1) for o in four_cases]
    table = analytic_table(evaluate({"m": known}, QUICK), 1, None)
    assert table is not None
    reference, analytic = float(table.texts[0][3]), float(table.texts[0][4])
    assert analytic - reference == pytest.approx(1.0, abs=0.011)
    assert (
        evaluate({"m": known}, QUICK).of(1, None)["m"].estimates["dice"]
        == evaluation.of(1, None)["old"].estimates["dice"]
    )


def test_labels_end_with_their_mean(make_outcome):
    rows = [
        make_outcome("a", 10, 0, 0, label=1, hd95_mm=2.0, betti_error=1),
        make_outcome("a", 5, 0, 10, label=2, hd95_mm=5.0, betti_error=4),
    ]
    found = evaluate({"m": rows}, replace(QUICK, burden_label=None), label_names={1: "cord", 2: "parotid"})
    table = labels_table(found, None)
    assert table.columns[-2:] == ("HD95 (mm)", "Betti error")
    assert table.texts[2][-2:] == ["3.50", "2.50"]
    assert [row[0] for row in table.rows] == ["cord", "parotid", "mean over labels"]
    assert table.bold_rows == (2,)
    assert table.texts[2][3] == "0.750"
