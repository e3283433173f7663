from typing import Any

import numpy as np
import pytest
from scipy import stats

from apatite.report.html import Section, Table
from apatite.study.paper.contrasts import RIGHT_QUARTILE, sample
from apatite.study.paper.draw import DRAWINGS
from apatite.study.paper.results import Results, View


def section(results: Results, name: str) -> Section:
    return DRAWINGS[name].make(results)


def cells(table: Table) -> list[dict[str, str]]:
    """Rows as they are shown, by heading."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.texts]


def row(table: Table, **wanted: str) -> dict[str, str]:
    (found,) = [r for r in cells(table) if all(r[name.replace("_", " ")] == value for name, value in wanted.items())]
    return found


def add_main(sweep: Any, seeds: int = 2) -> None:
    for seed in range(seeds):
        sweep.add(sweep.noisy(0.62, 1, seed), calibrated=sweep.noisy(0.70, 2, seed), share=0.9, seed=seed)
        sweep.add(0.35, calibrated=sweep.noisy(0.40, 3, seed), seed=seed, init="scratch")
        sweep.add(sweep.noisy(0.60, 4, seed), share=1.3, seed=seed, arm="nnunet", flat=False)


@pytest.mark.parametrize("name", DRAWINGS)
def test_without_rows_everything_says_that_it_was_not_run(sweep: Any, name: str):
    made = section(sweep.results(), name)
    assert made.figures == [] or made.figures == ()
    shown = [text for table in made.tables for r in table.texts for text in [*r, table.caption]]
    shown += [table.caption for table in made.tables]
    assert any("not run" in text.lower() for text in shown)
    assert not any("nan" in text for text in shown)


def test_the_main_table_by_hand_beside_the_paper(sweep: Any):
    add_main(sweep)
    results = sweep.results()
    table, differences = section(results, "main").tables
    assert [r["model"] for r in cells(table)] == [
        "nnU-Net", "nnU-Net, calibrated", "ViT, from scratch", "ViT, from scratch, calibrated",
        "ViT, pre-trained", "ViT, pre-trained, calibrated",
    ]  # fmt: skip
    ours = row(table, model="ViT, pre-trained, calibrated")
    records = [r for r in results.records if r.axes["init"] == "mae"]
    dice = [np.mean([o.overlap.dice for o in results.rows(r, "calibrated") if o.is_positive]) for r in records]
    assert float(ours["Dice"].split(" ")[0]) == pytest.approx(np.mean(dice), abs=5e-4)
    assert float(ours["Dice, SD of runs"]) == pytest.approx(np.std(dice, ddof=1), rel=5e-3)
    assert ours["Dice, paper (IST-3, other data)"] == "0.651 [0.620; 0.684]"
    assert ours["|ΔV| (mm³), paper (IST-3, other data)"] == "100 [82; 130]"
    assert row(table, model="nnU-Net, calibrated")["Dice, paper (IST-3, other data)"] == "–"
    first = cells(differences)[0]
    assert first["difference"] == "ViT, pre-trained, calibrated − ViT, from scratch, calibrated"
    assert first["runs"] == "2"
    assert len(first["Dice by run"].split(" ")) == 2
    assert "16 cases with calcium" in table.caption
    assert "200 resamples" in table.caption


def test_scratch_for_equal_time_joins_the_main_table_once_it_was_run(sweep: Any):
    add_main(sweep, 1)
    sweep.add(0.5, init="scratch-equal-time")
    table, differences = section(sweep.results(), "main").tables
    assert len(table.rows) == 7
    assert any("as long as both take" in r["difference"] for r in cells(differences))


def test_splits_count_what_the_largest_run_saw(sweep: Any):
    sweep.add(0.5)
    sweep.add(0.4, labels=5, changes={"splits": {"finetune": {"series": 5, "patients": 5, "positive": 5}}})
    (table,) = section(sweep.results(), "splits").tables
    finetune = row(table, split="finetune")
    assert (finetune["series"], finetune["with calcium"], finetune["series, paper (IST-3, other data)"]) == (
        "40", "35", "188",
    )  # fmt: skip
    assert row(table, split="pretrain")["series"] == "not run"


def test_decoders_stand_beside_the_printed_ones(sweep: Any):
    for decoder, level in (("mae", 0.6), ("unetr", 0.5)):
        sweep.add(level, decoder=decoder, model="vitiac-s")
    sweep.add(0.4)
    made = section(sweep.results(), "decoders")
    (table,) = made.tables
    assert len(table.rows) == 16
    mae = row(table, encoder="S", decoder="mae")
    assert float(mae["Dice"].split(" ")[0]) == pytest.approx(0.6, abs=0.01)
    assert mae["recall, paper (IST-3, other data)"] == "0.538"
    assert row(table, encoder="L", decoder="mae")["Dice"] == "not run"
    assert row(table, encoder="XS", decoder="mae")["Dice, paper (IST-3, other data)"] == "–"
    assert len(made.figures) == 1


def test_agreement_is_that_of_one_run(sweep: Any):
    sweep.add(0.6, share=0.8, seed=1)
    sweep.add(0.6, share=0.5, seed=0)
    made = section(sweep.results(), "agreement")
    (table,) = made.tables
    ours = row(table, model="ViT, pre-trained")
    volumes = np.array([40 + 13 * n for n in range(16)])
    expected = np.mean([round(0.5 * v) - v for v in volumes])
    assert float(ours["bias (mm³)"].replace("−", "-")) == pytest.approx(expected, abs=0.06)
    assert row(table, model="nnU-Net")["cases"] == "not run"
    assert len(made.figures) == 1


def test_patch_sizes_are_named_in_millimetres(sweep: Any):
    for patch in (4, 8, "2x4x8"):
        sweep.add(0.6, patch=patch)
    made = section(sweep.results(), "patch-sizes")
    (table,) = made.tables
    assert row(table, decoder="mae", patch="8")["edges (mm)"] == "7 × 7 × 16"
    # Depth, height, width of the axis are k, j, i of the edges.
    assert row(table, decoder="mae", patch="2x4x8")["edges (mm)"] == "7 × 3.5 × 4"
    assert row(table, decoder="mae", patch="16")["Dice"] == "not run"
    assert "unetr" not in made.figures[0].alt
    assert "mae: 0.6" in made.figures[0].alt


def test_strata_hold_every_case_once(sweep: Any):
    add_main(sweep, 1)
    made = section(sweep.results(), "strata")
    thickness, volume = made.tables
    for table in (thickness, volume):
        ours = [int(r["cases"]) for r in cells(table) if r["model"] == "ViT, pre-trained, calibrated"]
        assert sum(ours) == 16
        assert len(ours) == 4
    assert len(made.figures) == 4


def test_upsampling_and_sizes_give_paired_differences(sweep: Any):
    sweep.add(0.6, decoder="upscale")
    sweep.add(0.5, decoder="upscale", upsampling="transposed")
    for model, level in (("vitiac-s", 0.6), ("vitiac-m", 0.65)):
        sweep.add(level, model=model)
    results = sweep.results()
    # The reference encoder is S now, which was run with the MAE decoder only.
    _, ways = section(results, "upsampling").tables
    assert row(ways, difference="upscale: nearest − transposed")["Dice"] == "not run"
    _, sizes = section(results, "embedding-sizes").tables
    found = row(sizes, difference="mae: M − S")
    assert float(found["Dice"].split(" ")[0]) == pytest.approx(0.05, abs=0.01)
    assert found["Dice by run"].startswith("+0.0")


def test_burden_counts_and_the_exact_test(sweep: Any):
    add_main(sweep)
    results = sweep.results()
    counts, tests = section(results, "burden").tables
    ours = row(counts, model="ViT, pre-trained, calibrated")
    assert ours["right, paper (IST-3, other data)"] == "153 of 209"
    by_run = [int(count) for count in ours["right, by run"].split(" ")]
    arms = [results.arm("a", "calibrated", init="mae"), results.arm("b", arm="nnunet")]
    first, second = (sample(results, arm, RIGHT_QUARTILE) for arm in arms)
    assert first and second
    assert by_run == first.values.sum(axis=1).tolist()
    # One case per patient: every sixth shares one with the case before it.
    own = [place for place in range(16) if place % 6 != 5]
    a, b = first.values[0][own] > 0.5, second.values[0][own] > 0.5
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    assert only_a > only_b
    found = cells(tests)[0]
    assert (found["patients"], found["right by the first alone"], found["by the second alone"]) == (
        str(len(own)), str(only_a), str(only_b),
    )  # fmt: skip
    expected = stats.binomtest(only_a, only_a + only_b).pvalue
    assert float(found["exact p"]) == pytest.approx(expected, rel=5e-3)


def add_labels(sweep: Any) -> None:
    for draw_number in range(2):
        for count, level in ((5, 0.4), (20, 0.5)):
            sweep.add(level + 0.1, labels=count, draw=draw_number)
            sweep.add(level + 0.02 * draw_number, labels=count, draw=draw_number, init="scratch")
    sweep.add(0.45, labels=20, reader="reader")


def test_label_curves_pair_draws(sweep: Any):
    add_labels(sweep)
    made = section(sweep.results(), "labels")
    table, differences = made.tables
    five = [r for r in cells(table) if r["labels"] == "5"]
    assert [(r["start"], r["runs"]) for r in five] == [("pre-trained", "2"), ("from scratch", "2")]
    found = row(differences, difference="5 labels, perfect: pre-trained − from scratch")
    assert found["runs"] == "2"
    by_draw = [float(value) for value in found["Dice by run"].split(" ")]
    assert by_draw == pytest.approx([0.1, 0.08], abs=0.01)
    read = row(differences, difference="20 labels, pre-trained: a reader’s − perfect")
    assert read["runs"] == "1"
    assert float(read["Dice"].split(" ")[0].replace("−", "-")) == pytest.approx(-0.15, abs=0.01)
    assert "pre-trained, perfect labels: 0.5" in made.figures[0].alt


def test_all_labels_and_the_same_number_share_a_place(sweep: Any):
    # The fixture's `all` are 40 labelled cases.
    for labels in (5, 40, "all"):
        sweep.add(0.5 if labels != "all" else 0.9, labels=labels)
    (picture,) = section(sweep.results(), "labels").figures
    assert "0.9" not in picture.alt


def test_curves_mark_what_is_not_flat(sweep: Any):
    add_main(sweep, 1)
    made = section(sweep.results(), "curves")
    (table,) = made.tables
    flat = {r["row"]: r["flat"] for r in cells(table)}
    assert flat == {
        "nnunet-nall-s0-perfect": "no", "vit-xs-p4-mae-mae-nall-s0-perfect": "yes",
        "vit-xs-p4-mae-scratch-nall-s0-perfect": "yes",
    }  # fmt: skip
    moved = {r["row"]: r["moved at the end"] for r in cells(table)}
    assert moved["nnunet-nall-s0-perfect"] == "0.0500"
    seldom = sweep.add(0.5, seed=1, flat=False, changes={"curve": ((300, 0.4), (600, 0.4))})
    (table,) = section(sweep.results(), "curves").tables
    assert row(table, row=seldom.name)["flat"] == "looked at too seldom"
    assert "nnU-Net, seed 0 (not flat)" in made.figures[0].alt
    assert "scratch, seed 0" in made.figures[0].alt


def test_costs_count_pre_training_for_whom_it_was_done(sweep: Any):
    sweep.add(0.5)
    sweep.add(0.5, init="scratch")
    sweep.add(0.5, tag="long", steps=1200)
    (table,) = section(sweep.results(), "costs").tables
    with_it = {r["model"]: r["training with it (s)"] for r in cells(table)}
    assert with_it["pre-trained, XS, patch 4, mae, all labels"] == "150"
    assert with_it["scratch, XS, patch 4, mae, all labels"] == "100"
    (changed,) = [r for r in cells(table) if "recipe changed" in r["model"]]
    assert changed["steps"] == "1200"
    assert "a processor" in table.caption


def test_the_gated_reading_has_its_own_rows(sweep: Any):
    add_main(sweep, 1)
    gated = sweep.results(View(hu_gate=130.0))
    assert all(not gated.rows(record, "raw") for record in gated.records)
