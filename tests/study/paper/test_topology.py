"""The second paper's arms, claims and tables, on sweeps in which each is made true or false."""

from dataclasses import replace
from typing import Any

import pytest

from apatite.core.errors import ConfigError
from apatite.report.html import Table
from apatite.study.paper.arms import from_scratch, is_thick, pretrained
from apatite.study.paper.claims import Finding, find
from apatite.study.paper.contrasts import contrast, estimate, means_of_runs
from apatite.study.paper.draw import DRAWINGS
from apatite.study.paper.evidence import evidence_markdown, judged_on
from apatite.study.paper.papers import GU2024, JIN2025
from apatite.study.paper.results import Results
from apatite.study.paper.titles import row_words
from apatite.study.paper.topo_arms import MAIN, others_run, topo_arm
from apatite.study.paper.topo_claims import TOPO_CLAIMS
from apatite.study.paper.words import METHODS, NETWORKS, start_words
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import EQUAL_TIME

ORGANS = {"label_names": {"1": "brainstem", "2": "larynx"}, "domains": ["real"]}
LEVELS = {
    ("vit", "mae_voxels"): 0.50, ("vit", "mae_topology"): 0.56, ("vit", "mae_position"): 0.505,
    ("vit", "topo_mae"): 0.60, ("unetrpp", "scratch"): 0.66, ("hybrid", "topo_mae_parallel"): 0.75,
    ("hybrid", "topo_mae_hybrid"): 0.70,
}  # fmt: skip
FEW = 4
"""Cases in which the second label was looked for."""


def add(sweep: Any, network: str, init: str, dice: Any, second: float | None = None, **axes: Any) -> Record:
    """A row; with a second level, one of two labels, of which the second was annotated in a few cases."""
    changes = ORGANS if second is not None else {}
    record = sweep.add(dice, network=network, init=init, changes=changes, **axes)
    _, rows = sweep.made[-1]
    for title in rows if second is not None else ():
        rows[title] = [*rows[title], *(replace(sweep.outcome(number, second), label=2) for number in range(FEW))]
    return record


def add_all(sweep: Any, seeds: int = 3, levels: dict[tuple[str, str], float] = LEVELS) -> None:
    for seed in range(seeds):
        for number, ((network, init), level) in enumerate(levels.items()):
            add(sweep, network, init, sweep.noisy(level, number, seed, spread=0.002), seed=seed)


def found(results: Results, key: str) -> Finding:
    (claim,) = [claim for claim in TOPO_CLAIMS if claim.key == key]
    return find(results.over_labels, claim)


def cells(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.texts]


def test_the_claims(sweep: Any):
    add_all(sweep)
    results = sweep.results()
    words = {claim.key: found(results, claim.key).word for claim in TOPO_CLAIMS}
    assert words == {
        "topology": "holds", "position": "does not hold", "all three": "holds", "hybrid, UNETR++": "holds",
        "hybrid, ViT": "holds", "consistency": "does not hold",
    }  # fmt: skip
    (part,) = found(results, "hybrid, UNETR++").parts.values()
    assert part.difference is not None and part.difference.value == pytest.approx(0.04, abs=0.01)


def test_two_seeds_decide_nothing(sweep: Any):
    add_all(sweep, seeds=2)
    results = sweep.results()
    for claim in TOPO_CLAIMS:
        finding = found(results, claim.key)
        assert (finding.word, finding.reason) == ("not decidable", "2 of at least 3 seeds")


def test_a_curve_that_rises_and_unequal_steps_decide_nothing(sweep: Any):
    add_all(sweep)
    add(sweep, "hybrid", "topo_mae_hybrid", 0.7, seed=0, flat=False)
    assert "not flat" in found(sweep.results(), "hybrid, ViT").reason
    add(sweep, "hybrid", "topo_mae_hybrid", 0.7, seed=0, steps=900)
    assert "unequal steps: 600, 900" in found(sweep.results(), "hybrid, ViT").reason


def test_what_was_not_run_is_named(sweep: Any):
    add(sweep, "vit", "mae_voxels", 0.5)
    assert found(sweep.results(), "topology").reason == "not run: ViT, pre-trained: reconstruction and topology"


def test_networks_do_not_mix(sweep: Any):
    """Rows that differ in their network alone are of different arms, and none of another paper's."""
    for network, level in (("vit", 0.2), ("hybrid", 0.4), ("hybrid_decoder", 0.6), ("unetrpp", 0.8)):
        add(sweep, network, "scratch", level)
        add(sweep, network, "topo_mae_hybrid", level)
    results = sweep.results()
    for network, level in (("vit", 0.2), ("hybrid", 0.4), ("hybrid_decoder", 0.6), ("unetrpp", 0.8)):
        for init in ("scratch", "topo_mae_hybrid"):
            (mean,) = means_of_runs(results, topo_arm(results, network, init), "dice")
            assert mean == pytest.approx(level, abs=0.01)
    assert len(results.runs(from_scratch(results))) == 1 and not results.runs(pretrained(results))
    assert means_of_runs(results, from_scratch(results), "dice") == pytest.approx([0.2], abs=0.01)


def test_labels_weigh_the_same_in_a_mean_and_in_a_difference(sweep: Any):
    add(sweep, "vit", "mae_voxels", 0.5, 0.2)
    add(sweep, "vit", "mae_topology", 0.6, 0.8)
    results = sweep.results().over_labels
    first, second = (topo_arm(results, "vit", init) for init in ("mae_topology", "mae_voxels"))
    mean = estimate(results, first, "dice")
    assert mean is not None and mean.value == pytest.approx(0.7, abs=0.01)  # 20 rows would give 0.64
    difference = contrast(results, [(1.0, first), (-1.0, second)], "dice")
    assert difference is not None and difference.estimate.value == pytest.approx(0.35, abs=0.01)
    assert difference.num_cases == 16 and list(difference.by_run.values()) == pytest.approx([0.35], abs=0.01)
    with pytest.raises(ConfigError, match="one label"):
        contrast(results, [(1.0, first)], "dice", is_thick)


def test_organs_are_no_evidence_about_calcium_and_calcium_is_read_alone(sweep: Any):
    add(sweep, "vit", "scratch", 0.5, 0.5)
    add(sweep, "vit", "mae_voxels", 0.5, 0.5)
    (results,) = sweep.studies()
    assert [judged.paper for judged in judged_on(results)] == [GU2024]
    text = evidence_markdown([results])
    assert "Nothing was run yet on Jin et al. 2025" in text and "Verdicts, Gu et al. 2024" in text
    assert text.count("unverified") == 2 and "| not run | **not decidable**" in text
    assert "16 cases, labels averaged" in text


def test_a_phantom_can_be_about_both_papers(sweep: Any):
    sweep.add(0.5)
    assert [judged.paper for judged in judged_on(sweep.results())] == [JIN2025]
    add(sweep, "unetrpp", "scratch", 0.5)
    assert [judged.paper for judged in judged_on(sweep.results())] == [JIN2025, GU2024]
    text = evidence_markdown(sweep.studies())
    assert text.index("Verdicts, Jin et al. 2025") < text.index("Verdicts, Gu et al. 2024")


def test_the_table_holds_every_arm_once_and_fewer_labels_where_they_were_run(sweep: Any):
    for count in (10, 40):
        add(sweep, "vit", "topo_mae", 0.5, 0.3, labels=count)
    add(sweep, "vit", "mae_voxels", 0.4, 0.3, labels=40)
    add(sweep, "hybrid", "scratch", 0.4, 0.3, labels=40)
    arms, differences, of_labels = DRAWINGS["topology"].make(sweep.results()).tables
    rows = cells(arms)
    assert [row["labels"] for row in rows] == ["10", *["40"] * (len(MAIN) + 1)]
    assert len({row["model"] for row in rows[1:]}) == len(MAIN) + 1 and rows[-1]["model"] == "hybrid, from scratch"
    shown = {row["model"]: row for row in rows[1:]}
    assert (
        shown["ViT, pre-trained: all three"]["Dice"].startswith("0.40")
        and shown["UNETR++, from scratch"]["Dice"] == "not run"
    )
    pairs = {row["difference"]: row for row in cells(differences)}
    assert len(pairs) == 2 * len(TOPO_CLAIMS)
    assert float(pairs["40 labels: all − rec"]["Dice by run"]) == pytest.approx(0.05, abs=0.01)
    assert pairs["10 labels: all − rec"]["Dice by run"] == "not run"
    (row,) = [row for row in cells(of_labels) if row["model"] == "ViT, pre-trained: all three"]
    assert row["Dice, brainstem"].startswith("0.50") and row["Dice, larynx"].startswith("0.3")


def test_pretraining_shows_both_networks_beside_their_guesses(sweep: Any):
    add(sweep, "vit", "topo_mae", 0.5)
    results = sweep.results()
    axes = {"init": "topo_mae_hybrid", "model": "vitiac-xs", "patch": 8, "seed": 1}
    health = {
        "vit.reconstruction": 0.02, "unetrpp.reconstruction": 0.03, "vit.interpolation": 0.05,
        "unetrpp.interpolation": 0.05,
        "vit_point_error_mm": 21.0, "unetrpp_point_error_mm": 32.0, "guess_point_error_mm": 43.0, "probe_dice": 0.2,
    }  # fmt: skip
    two = Record(
        name="pretrain-a", kind="pretrain", tier="small", axes=axes, steps=7, seconds={"pretrain": 9.0},
        num_parameters=1, health=health,
    )  # fmt: skip
    one = replace(two, name="pretrain-b", axes=axes | {"init": "mae_topology"}, health={"reconstruction": 0.06})
    (table,) = DRAWINGS["pretraining"].make(replace(results, records=(*results.records, two, one))).tables
    rows = cells(table)
    errors = [(row["network"], row["error of reconstruction"], row["error of position (mm)"]) for row in rows]
    assert [row["probe Dice"] for row in rows] == ["0.200", "–", "–"]
    assert errors == [("ViT", "0.0200", "21.0"), ("UNETR++", "0.0300", "32.0"), ("–", "0.0600", "–")]
    assert [row["of the guess (mm)"] for row in rows] == ["43.0", "43.0", "–"]


def test_rows_and_beginnings_in_words(sweep: Any):
    hybrid = add(sweep, "hybrid", "topo_mae_hybrid", 0.5)
    assert row_words(hybrid) == ("pre-trained: all three, both networks, consistency, hybrid, XS, patch 4, all labels")
    assert start_words("mae_euler-as-long-as-mae_topology") == (
        "pre-trained: reconstruction and Euler curves, for the time of: reconstruction and topology"
    )
    add(sweep, "unetrpp", EQUAL_TIME, 0.5)
    assert others_run(sweep.results()) == [("unetrpp", EQUAL_TIME)]


def test_every_method_and_network_has_words():
    from apatite.pretrain.methods import METHODS as ALL_METHODS
    from apatite.segment.networks import NETWORKS as ALL_NETWORKS

    assert set(METHODS) == set(ALL_METHODS) - {"mae"} and set(NETWORKS) == set(ALL_NETWORKS)
