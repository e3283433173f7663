from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.burden import deployed_cuts
from apatite.core.errors import DataError
from apatite.study.evaluate import EvaluateConfig, evaluate
from apatite.study.intervals import IntervalConfig
from apatite.study.outcomes import CaseOutcome

QUICK = EvaluateConfig(intervals=IntervalConfig(resamples=60))


def test_paired_differences_are_of_the_same_cases(four_cases: list[CaseOutcome], make_outcome):
    better = [
        make_outcome("a", 8, 0, 0),
        make_outcome("b", 20, 0, 0),
        make_outcome("c", 4, 0, 0),
        make_outcome("d", 0, 0, 0),
    ]
    # The order of the rows says nothing; the case does.
    found = evaluate({"old": four_cases, "new": better[::-1]}, QUICK)
    by_quantity = {d.quantity: d for d in found.differences}
    assert (by_quantity["dice"].model, by_quantity["dice"].baseline) == ("new", "old")
    assert by_quantity["dice"].estimate.value == pytest.approx((4 / 16 + 10 / 30 + 1) / 3)
    # Precision is undefined for the old model in case c, so two cases are left.
    assert by_quantity["precision"].num_cases == 2
    assert by_quantity["precision"].estimate.value == pytest.approx(0.25 / 2)
    assert by_quantity["volume_error_all_mm3"].num_cases == 4


def test_the_gate_is_one_switch_for_all_models(four_cases: list[CaseOutcome]):
    gated = [replace(o, hu_gate=130.0, false_positive=0) for o in four_cases]
    both = four_cases + gated
    found = evaluate({"old": both, "new": both}, QUICK)
    assert found.gates == (None, 130.0)
    for model in ("old", "new"):
        assert found.of(1, None)[model].estimates["precision"].value == pytest.approx(0.875)
        assert found.of(1, 130.0)[model].estimates["precision"].value == pytest.approx(1.0)
    with pytest.raises(DataError, match="HU gate 130") as raised:
        evaluate({"old": both, "new": four_cases}, QUICK)
    assert raised.value.code == "CASES_DIFFER"


@pytest.mark.parametrize("change", ["missing", "other reference", "twice"])
def test_models_on_unlike_cases_are_refused(four_cases: list[CaseOutcome], change: str):
    others = {
        "missing": four_cases[1:],
        "other reference": [replace(four_cases[0], false_negative=3), *four_cases[1:]],
        "twice": [*four_cases, four_cases[0]],
    }
    with pytest.raises(DataError) as raised:
        evaluate({"old": four_cases, "new": others[change]}, QUICK)
    assert (raised.value.where, raised.value.code) == ("new", "CASES_DIFFER")


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(DataError, match="no outcomes"):
        evaluate({"m": []}, QUICK)


def test_the_paper_definition_never_sees_development(make_outcome):
    cases = [make_outcome(f"c{i}", 4 * i, 0, 0) for i in range(1, 9)]
    cuts = {
        name: deployed_cuts(np.array(volumes), np.array([]), 0.1)
        for name, volumes in (("near", [1.0, 2.0, 3.0, 4.0]), ("far", [100.0, 200.0, 300.0, 400.0]))
    }
    found = {
        name: evaluate({"m": cases}, QUICK, deployed={"m": {None: cut}}).of(1, None)["m"].groups
        for name, cut in cuts.items()
    }
    assert found["near"]["paper"].cuts == found["far"]["paper"].cuts
    assert found["near"]["paper"].cuts.cuts_mm3 == pytest.approx((5.5, 9.0, 12.5))
    assert found["near"]["deployed"].cuts != found["far"]["deployed"].cuts
    assert set(evaluate({"m": cases}, QUICK).of(1, None)["m"].groups) == {"paper"}


def test_quartiles_of_the_whole_split_serve_its_strata_too(make_outcome):
    thick = [make_outcome(f"c{i}", 4 * i, 0, 0, slice_thickness_mm=5.0) for i in range(1, 5)]
    thin = [make_outcome(f"d{i}", 40 * i, 0, 0, slice_thickness_mm=1.0) for i in range(1, 5)]
    found = evaluate({"m": thick + thin}, QUICK)
    whole = found.of(1, None)["m"].groups["paper"].cuts
    assert found.of(1, None, "slice thickness 3.5–6 mm")["m"].groups["paper"].cuts == whole
    assert found.of(1, None, "slice thickness 3.5–6 mm")["m"].num_cases == 4


def test_an_organ_that_was_not_annotated_in_a_case_takes_no_part_in_it(make_outcome):
    rows = [
        make_outcome("a", 10, 0, 0, label=1),
        make_outcome("a", 5, 0, 10, label=2),
        make_outcome("b", 0, 0, 10, label=1),
    ]
    found = evaluate({"m": rows}, replace(QUICK, burden_label=None), label_names={1: "cord"})
    assert {label: found.of(label, None)["m"].num_cases for label in found.labels} == {1: 2, 2: 1}
    assert found.label_names == {1: "cord", 2: "label 2"}
    # Mean over labels of each label's mean: (0.5 + 0.5) / 2, not the mean over the three rows.
    assert found.of(2, None)["m"].estimates["dice"].value == pytest.approx(0.5)
    assert found.label_means[0].estimates["dice"].value == pytest.approx(0.5)
    assert all(not summary.groups for summary in found.summaries)


def test_the_same_seed_gives_the_same_intervals(four_cases: list[CaseOutcome]):
    first, second = (evaluate({"m": four_cases}, QUICK).of(1, None)["m"].estimates for _ in range(2))
    assert {k: str(v) for k, v in first.items()} == {k: str(v) for k, v in second.items()}
