"""The third comparison: its arms, claims, and drawings, on sweeps in which each is made true or false."""

from dataclasses import replace
from typing import Any

import pytest

from apatite.report.html import Table
from apatite.study.paper.claims import Finding, find
from apatite.study.paper.contrasts import means_of_runs
from apatite.study.paper.convergence import NEVER, first_step, reached, sooner
from apatite.study.paper.draw import DRAWINGS
from apatite.study.paper.evidence import evidence_markdown, judged_on
from apatite.study.paper.papers import GU2024, JIANG2026
from apatite.study.paper.poster import AVERAGES, TAG_CT, TAG_MR
from apatite.study.paper.results import Results, changed_by
from apatite.study.paper.smit_arms import few_and_many, is_of_pretexts, pretext_arm, swin_of
from apatite.study.paper.smit_claims import OTHERS, SMIT_CLAIMS
from apatite.study.paper.titles import row_words
from apatite.study.paper.topo_arms import is_of_topology
from apatite.study.paper.words import PRETEXTS
from apatite.study.sweep.record import Record

ORGANS = {"label_names": {"1": "brainstem", "2": "larynx"}, "domains": ["real"]}
LEVELS = {
    "scratch": 0.40, "rotation": 0.45, "mocov3": 0.46, "dino": 0.52, "ibot": 0.54, "simmim": 0.55, "smit": 0.62,
}  # fmt: skip
FEW_LEVELS = {
    "scratch": 0.15, "rotation": 0.25, "mocov3": 0.26, "dino": 0.35, "ibot": 0.38, "simmim": 0.40, "smit": 0.56,
}  # fmt: skip
LOOKS = (100, 200, 300, 400, 500, 600)


def curve(soon: int, last: float) -> tuple[tuple[int, float], ...]:
    """Low before the look at which it gets there."""
    return tuple((step, last if step >= soon else 0.05) for step in LOOKS)


def add(sweep: Any, init: str, dice: Any, *, model: str = "swin-xs", network: str = "swin", **more: Any) -> Record:
    changes = ORGANS | more.pop("changes", {})
    return sweep.add(dice, network=network, model=model, init=init, reader="openkbp", changes=changes, **more)


def add_all(
    sweep: Any, *, seeds: int = 3, levels: dict[str, float] = LEVELS, soon: dict[str, int] | None = None
) -> None:
    for labels, at in ((10, FEW_LEVELS), (40, levels)):
        for seed in range(seeds):
            for number, (init, level) in enumerate(at.items()):
                changes = {"curve": curve((soon or {}).get(init, 400), level)}
                dice = sweep.noisy(level, number, seed, labels, spread=0.002)
                add(sweep, init, dice, seed=seed, labels=labels, changes=changes)


def found(results: Results, key: str) -> Finding:
    (claim,) = [claim for claim in SMIT_CLAIMS if claim.key == key]
    return find(results.over_labels, claim)


def cells(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.texts]


def value(cell: str) -> float:
    """Of an estimate as it is shown."""
    return float(cell.split(" ")[0].replace("−", "-"))


def test_the_claims(sweep: Any):
    add_all(sweep, soon={"smit": 200})
    results = sweep.results()
    findings = {claim.key: found(results, claim.key) for claim in SMIT_CLAIMS}
    assert {key: finding.word for key, finding in findings.items()} == dict.fromkeys(findings, "holds")
    assert [len(findings[key].parts) for key in findings] == [5, 1, 6, 5, 6]
    part = findings["few labels"].parts["(SMIT − SimMIM) with 10 labels − the same with 40"]
    # 0.16 with few, 0.07 with many.
    assert part.difference is not None and part.difference.value == pytest.approx(0.09, abs=0.01)


def test_one_better_task_is_enough_against_it(sweep: Any):
    add_all(sweep, levels={**LEVELS, "ibot": 0.66, "rotation": 0.60}, soon={"smit": 400, "dino": 200})
    results = sweep.results()
    assert found(results, "SMIT").word == "does not hold" and found(results, "SMIT, scratch").word == "holds"
    assert found(results, "dense or whole").word == "does not hold"
    # Ahead of iBOT by 0.18 with few and behind it by 0.04 with many.
    assert found(results, "few labels").parts["(SMIT − iBOT) with 10 labels − the same with 40"].word == "holds"
    speed = found(results, "convergence")
    assert speed.word == "does not hold"
    assert speed.parts["steps of DINO − steps of SMIT"].by_seed == (-200.0,) * 3


def test_a_lead_that_shrinks_with_few_labels_is_against_the_claim(sweep: Any):
    for labels, smit, other in ((10, 0.31, 0.30), (40, 0.60, 0.50)):
        for seed in range(3):
            add(sweep, "smit", smit, labels=labels, seed=seed)
            for init in OTHERS:
                add(sweep, init, other, labels=labels, seed=seed)
    assert found(sweep.results(), "few labels").word == "does not hold"


def test_before_anything_was_run_every_claim_says_so(sweep: Any):
    add(sweep, "smit", 0.5)
    findings = [found(sweep.results(), claim.key) for claim in SMIT_CLAIMS]
    assert {finding.word for finding in findings} == {"not decidable"}
    assert all(finding.reason.startswith("not run: Swin, ") for finding in findings)
    (few,) = [finding for finding in findings if finding.claim.key == "few labels"]
    assert "few labels" in few.reason
    assert few_and_many(sweep.results()) == ("few", "many")


def test_two_seeds_decide_nothing(sweep: Any):
    add_all(sweep, seeds=2, soon={"smit": 200})
    reasons = {found(sweep.results(), claim.key).reason for claim in SMIT_CLAIMS}
    assert reasons == {"2 of at least 3 seeds"}


def test_convergence_by_hand(sweep: Any):
    scratch = add(sweep, "scratch", 0.5, changes={"curve": curve(500, 0.50)})
    add(
        sweep,
        "smit",
        0.5,
        changes={"curve": ((100, 0.44), (200, 0.45), (300, 0.2), (400, 0.7), (500, 0.7), (600, 0.7))},
    )
    add(sweep, "dino", 0.5, changes={"curve": curve(100, 0.449)})
    results = sweep.results()
    arms = {init: pretext_arm(results, "swin", init) for init in ("scratch", "smit", "dino")}
    steps = {init: reached(results, arm, arms["scratch"])[0, 0] for init, arm in arms.items()}
    assert [run.goal for run in steps.values()] == pytest.approx([0.9 * 0.5] * 3)
    assert [steps[init].step for init in ("scratch", "smit", "dino")] == [500.0, 200.0, NEVER]
    assert first_step(scratch, 0.51) == NEVER
    verdict = sooner(results, arms["smit"], arms["dino"], arms["scratch"])
    assert verdict.by_seed == (NEVER,) and verdict.reason == "1 of at least 3 seeds"
    table = cells(DRAWINGS["convergence"].make(results).tables[0])
    shown = {row["model"]: (row["goal (Dice)"], row["steps until then, by run"]) for row in table}
    assert shown["Swin, pre-trained: SMIT"] == ("0.450", "200") and shown["Swin, pre-trained: DINO"][1] == "∞"
    assert shown["Swin, pre-trained: iBOT"][1] == "not run"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"curve": ((300, 0.4), (600, 0.5))}, "looked at after different steps"),
        ({"is_flat": False}, "the goal still rises"),
    ],
)
def test_what_keeps_convergence_undecided(sweep: Any, change: dict[str, Any], reason: str):
    add_all(sweep, soon={"smit": 200})
    add(sweep, "scratch", 0.4, labels=40, seed=1, changes={"curve": curve(400, 0.4)} | change)
    assert reason in found(sweep.results(), "convergence").reason


def test_neither_gets_there_and_seldom_looked_at(sweep: Any):
    for seed in range(3):
        add(sweep, "scratch", 0.4, seed=seed, changes={"curve": curve(100, 0.4)})
        add(sweep, "smit", 0.4, seed=seed, changes={"curve": curve(100, 0.1)})
        add(sweep, "dino", 0.4, seed=seed, changes={"curve": curve(200, 0.1)})
    results = sweep.results()
    arms = [pretext_arm(results, "swin", init) for init in ("smit", "dino", "scratch")]
    assert sooner(results, *arms).reason == "neither gets there"
    for seed in range(3):
        for init in ("scratch", "smit", "dino"):
            add(sweep, init, 0.4, seed=seed, changes={"curve": ((300, 0.4), (600, 0.4))})
    assert "fewer than 5 looks" in sooner(sweep.results(), *arms).reason


def test_papers_do_not_take_each_others_rows(sweep: Any):
    swin = add(sweep, "smit", 0.5)
    student = add(sweep, "ibot", 0.5, model="vitiac-xs", network="vit")
    mae = add(sweep, "mae", 0.5, model="vitiac-xs", network="vit")
    topology = add(sweep, "topo_mae", 0.5, model="vitiac-xs", network="vit")
    assert [is_of_pretexts(record) for record in (swin, student, mae, topology)] == [True, True, False, False]
    assert [is_of_topology(record) for record in (swin, student, mae, topology)] == [False, False, False, True]
    assert [judged.paper for judged in judged_on(sweep.results())] == [GU2024, JIANG2026]
    assert row_words(swin) == "pre-trained: SMIT, Swin, XS, all labels"


def test_the_evidence_names_the_poster_as_unverified(sweep: Any):
    add_all(sweep, soon={"smit": 200})
    text = evidence_markdown(sweep.studies())
    assert "Nothing was run yet on Jin et al. 2025" in text and "Verdicts, Jiang et al. 2022 and 2026" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| SMIT is the best")]
    assert "0.848/0.875: unverified" in row and "| not run | **holds**" in row
    # Steps have no interval over patients, and are shown by seed.
    assert "|  | steps of DINO − steps of SMIT | – | +200 +200 +200 | – | holds: every seed" in text


def test_the_table_puts_the_poster_beside_the_right_rows(sweep: Any):
    add_all(sweep, seeds=1)
    add(sweep, "mae", 0.5, model="vitiac-xs", network="vit", labels=40)
    add(sweep, "scratch", 0.4, model="vitiac-xs", network="vit", labels=40)
    arms, differences = DRAWINGS["pretexts"].make(sweep.results()).tables
    rows = {(row["model"], row["labels"]): row for row in cells(arms)}
    printed = {key: (row[TAG_CT], row[TAG_MR]) for key, row in rows.items() if row[TAG_CT] != "–"}
    assert printed == {
        (f"Swin, pre-trained: {PRETEXTS[init]}", "40"): (f"{ct:.3f}", f"{mr:.3f}")
        for init, (ct, mr) in AVERAGES.items()
    }
    assert TAG_CT.endswith("(poster, unverified)") and TAG_MR.endswith("(poster, unverified)")
    assert value(rows["Swin, pre-trained: SMIT", "10"]["Dice"]) == pytest.approx(0.56, abs=0.01)
    pairs = {row["difference"]: row for row in cells(differences)}
    assert float(pairs["40 labels: SMIT − DINO"]["Dice by run"]) == pytest.approx(0.10, abs=0.01)
    assert float(pairs["10 labels: SMIT − DINO"]["Dice by run"]) == pytest.approx(0.21, abs=0.01)
    assert float(pairs["40 labels: ViT, MAE − from scratch"]["Dice by run"]) == pytest.approx(0.1, abs=0.01)
    assert not any("with 10 labels − the same" in title for title in pairs)


def test_the_swin_of_the_paper_is_looked_at_first(sweep: Any):
    add(sweep, "smit", 0.4)
    add(sweep, "smit", 0.6, model="swin-smit")
    add(sweep, "scratch", 0.5, model="vitiac-xs", network="vit")
    results = sweep.results()
    assert swin_of(results) == "swin-smit"
    assert means_of_runs(results, pretext_arm(results, "swin", "smit"), "dice") == pytest.approx([0.6], abs=0.01)
    small = pretext_arm(results, "swin", "smit", model="swin-xs")
    assert means_of_runs(results, small, "dice") == pytest.approx([0.4], abs=0.01)
    assert means_of_runs(results, pretext_arm(results, "vit", "scratch"), "dice") == pytest.approx([0.5], abs=0.01)


def test_few_labels_show_both_ends_and_draws_as_runs(sweep: Any):
    add_all(sweep, seeds=1)
    for draw in (1, 2):
        add(sweep, "smit", 0.56 + 0.03 * draw, labels=10, draw=draw)
    curves, gaps = DRAWINGS["few-labels"].make(sweep.results()).tables
    (smit,) = [row for row in cells(curves) if row["model"] == "Swin, pre-trained: SMIT"]
    assert smit["runs"] == "3 1" and value(smit["Dice, 10 labels"]) == pytest.approx(0.59, abs=0.01)
    (gap,) = [row for row in cells(gaps) if row["model"] == "Swin, pre-trained: SMIT"]
    # The first draw alone: 0.62 − 0.56.
    shown = [value(gap[name]) for name in ("gap", "Dice, 10 labels", "Dice, 40 labels")]
    assert shown == pytest.approx([0.06, 0.56, 0.62], abs=0.01)
    assert "Swin, pre-trained: SMIT" in DRAWINGS["few-labels"].make(sweep.results()).figures[0].alt


def test_a_changed_recipe_stands_beside_its_twin(sweep: Any):
    before, after = ({"teaching": {"tap": tap}, "seed": 0} for tap in ("stage4", "merged3"))
    for seed, (digest, config) in enumerate((("a" * 8, before), ("b" * 8, after))):
        axes = {"init": "smit", "model": "swin-xs", "patch": None, "seed": 0}
        encoder = Record(
            name=f"pretrain-smit-{seed}", kind="pretrain", tier="small", axes=axes, steps=7, seconds={"pretrain": 9.0},
            num_parameters=1, digests={"model": digest}, config=config,
        )  # fmt: skip
        sweep.made.append((encoder, {}))
    usual = add(sweep, "smit", 0.6, changes={"digests": {"truth": "truth", "encoder": "a" * 8}})
    changed = add(sweep, "smit", 0.5, tag="merged", changes={"digests": {"truth": "truth", "encoder": "b" * 8}})
    add(sweep, "itd_only", 0.3, tag="merged", changes={"digests": {"truth": "truth", "encoder": "b" * 8}})
    assert (changed_by(usual), changed_by(changed)) == ("", "merged")
    (table,) = DRAWINGS["ablations"].make(sweep.results()).tables
    alone, smit = cells(table)
    assert (smit["block"], smit["changed"]) == ("merged", "teaching.tap: stage4 → merged3")
    assert [value(smit[name]) for name in ("Dice", "Dice of the twin")] == pytest.approx([0.5, 0.6], abs=0.01)
    assert float(smit["by run"].replace("−", "-")) == pytest.approx(-0.1, abs=0.01)
    assert (alone["Dice of the twin"], alone["by run"]) == ("not run", "not run")
    # It is in no other arm.
    results = sweep.results()
    assert means_of_runs(results, pretext_arm(results, "swin", "smit"), "dice") == pytest.approx([0.6], abs=0.01)
    block = replace(pretext_arm(results, "swin", "smit"), block="merged")
    assert means_of_runs(results, block, "dice") == pytest.approx([0.5], abs=0.01)
