"""The few-label benchmark: its rows, its splits, its resumption, and figures that can be done by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import openkbp_fewshot
from apatite.core.errors import DataError
from apatite.data.augment import IDENTITY
from apatite.engine.precision import Precision
from apatite.io.manifest import read_manifest
from apatite.io.model_package import read_package
from apatite.segment.config import FinetuneConfig
from apatite.segment.labelled import labelled_rows
from apatite.segment.transfer import TAKES
from fewshot import ours, peer, peer_row
from fewshot.clock import StepClock
from fewshot.folders import Work, labelled_subset, open_base, open_view
from fewshot.page import page, summary
from fewshot.peer_seen import SEEN
from fewshot.results import Result, read_results, write_result
from fewshot.rows import LABELS, PEER_CHECK, ROWS, SEEDS, Row, encoder_of, scratch_of
from fewshot.table import Comparison, Condition, comparisons, difference, organ_mean, scores_of
from fewshot.variants import VARIANTS, finetune_config, pretrain_config

CROP = (8, 16, 24)
WINDOWS = ((-1000.0, 1000.0), (-160.0, 240.0))
TINY = Row(name="tiny", kind="scratch", seed=0, labels=2, minutes=0.1)


@pytest.fixture
def work(body_study, tmp_path: Path) -> Work:
    """The bodies as the prepared data; runs and results in a new folder."""
    made = Work(folder=tmp_path / "work", data=tmp_path / "data", results=tmp_path / "results")
    made.folder.mkdir()
    made.prepared.symlink_to(body_study.prepared)
    return made


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> FinetuneConfig:
    """Six steps that are saved one by one, in place of the recipe."""
    config = FinetuneConfig(
        model="vitiac-xs",
        patch=(8, 8, 8),
        crop=CROP,
        windows_hu=WINDOWS,
        decoder=finetune_config("standard", 0).decoder,
        augment=IDENTITY,
        steps=6,
        batch=2,
        check_every=6,
        save_every_s=0.0,
        precision=Precision(threads=1),
    )
    monkeypatch.setattr(ours, "finetune_config", lambda variant, seed: replace(config, seed=seed))
    monkeypatch.setattr(peer_row, "finetune_config", lambda variant, seed: replace(config, seed=seed))
    return config


# Rows


def test_rows_come_after_what_they_need_and_fit_into_a_sitting() -> None:
    names = list(ROWS)
    assert names[0] == PEER_CHECK
    for place, row in enumerate(ROWS.values()):
        assert row.name == names[place]
        assert set(row.needs) <= set(names[:place]), row.name
        assert 0 < row.minutes <= 40


def test_every_comparison_has_its_rows_at_every_seed() -> None:
    for comparison in comparisons():
        for condition in (comparison.first, comparison.second):
            assert {condition.row(seed) for seed in SEEDS} <= set(ROWS)
            assert condition.labels == comparison.first.labels


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_fine_tunes_what_it_pre_trained(variant: str) -> None:
    begins_from = ROWS[encoder_of(variant, 1)]
    before, after = pretrain_config(begins_from.variant, 1), finetune_config(variant, 1)
    for key in ("model", "patch", "crop", "windows_hu", "stem"):
        assert getattr(before, key) == getattr(after, key), key
    assert (before.seed, after.seed, after.check_every) == (1, 1, after.steps)
    assert scratch_of(variant, 1, 10) in ROWS


def test_a_variant_without_a_twin_changes_nothing_that_scratch_would_feel() -> None:
    for name, variant in VARIANTS.items():
        if not variant.own_scratch:
            assert replace(finetune_config(name, 0), take="encoder") == finetune_config("standard", 0), name


def test_remedies_are_what_they_are_called() -> None:
    assert finetune_config("embedding", 0).take == "embedding"
    assert set(TAKES) == {"encoder", "embedding"}
    assert pretrain_config("long", 0).epochs == 3 * pretrain_config("standard", 0).epochs
    assert pretrain_config("hidden-60", 0).hidden_ratio == 0.6
    assert finetune_config("even-rates", 0).optim.layer_decay == 1
    assert finetune_config("conv-stem", 0).stem == "conv"


# Splits


def test_subsets_are_nested_and_of_the_seed(body_study) -> None:
    manifest = body_study.open().manifest
    assert all(set(labelled_subset(manifest, s, 2)) < set(labelled_subset(manifest, s, 3)) for s in range(6))
    assert len({labelled_subset(manifest, seed, 2) for seed in range(6)}) > 1
    with pytest.raises(DataError, match="5 labelled cases"):
        labelled_subset(manifest, 0, 5)


def test_no_development_case_is_ever_learned_from(work: Work) -> None:
    base = open_base(work)
    held_out = {case.case_id for case in base.cases if case.split in ("development", "test")}
    for seed in SEEDS:
        for count in (1, 2, 3):
            chosen = labelled_subset(base.manifest, seed, count)
            view = open_view(work, f"s{seed}-{count}", chosen)
            rows = labelled_rows(view, FinetuneConfig(crop=CROP))
            assert {view.cases[row].case_id for row in rows} == set(chosen)
            learned = view.case_index("pretrain", "finetune")
            assert not held_out & {view.cases[row].case_id for row in learned}
            assert {case.case_id for case in view.cases if case.split in ("development", "test")} == held_out
    with pytest.raises(DataError, match="no training case"):
        open_view(work, "leak", [min(held_out)])


def test_a_view_is_the_same_arrays_under_another_digest(work: Work) -> None:
    base = open_base(work)
    one, two = (open_view(work, f"v{n}", [f"body-{n}"]) for n in (0, 1))
    assert one.about["manifest_sha256"] != two.about["manifest_sha256"]
    np.testing.assert_array_equal(one.volume("body-3").image[:], base.volume("body-3").image[:])
    with pytest.raises(DataError, match="other labelled cases"):
        open_view(work, "v0", ["body-2"])


def test_the_real_subsets_hold_training_cases_only() -> None:
    table = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "openkbp" / "cases.csv"
    if not table.exists():
        pytest.skip("the OpenKBP images are not there")
    manifest = read_manifest(table, {"train": "pretrain"})
    split_of = {case.case_id: case.split for case in manifest.cases}
    for seed in SEEDS:
        ten, forty = (labelled_subset(manifest, seed, count) for count in LABELS)
        assert forty[:10] == ten
        assert {split_of[case_id] for case_id in forty} == {"pretrain"}


# Resumption


class Halted(Exception):
    """A row was stopped on the way."""


def halting(clock: StepClock, after: int) -> Callable:
    """A clock that stops the run after so many steps."""

    def watch(items, stage, total=None):
        for number, item in enumerate(clock(items, stage, total)):
            if number == after:
                raise Halted
            yield item

    return watch


def test_a_row_that_was_stopped_gives_the_same_json(work: Work, tiny, monkeypatch, tmp_path) -> None:
    whole = ours.run_finetuning(TINY, replace(work, folder=work.folder, runs=tmp_path / "whole"))
    (work.folder / "clocks" / "tiny.jsonl").unlink()
    halted_at, clock_of = 4, ours.clock_of
    with monkeypatch.context() as patch:
        patch.setattr(ours, "clock_of", lambda row, work: halting(clock_of(row, work), halted_at))
        with pytest.raises(Halted):
            ours.run_finetuning(TINY, work)
    resumed = ours.run_finetuning(TINY, work)
    assert resumed.outcomes == whole.outcomes
    assert {o["case_id"] for o in whole.outcomes} == {f"body-{number}" for number in range(4, 10)}
    timeless = {"training_s": 0.0, "evaluation_s": 0.0}
    assert replace(resumed, **timeless) == replace(whole, **timeless)
    # Predictions of six steps may all be empty, so the weights are compared too.
    first, second = (
        read_package(folder / "model").weights for folder in (tmp_path / "whole" / "tiny", work.run("tiny"))
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    write_result(work.result("tiny"), resumed)
    kept = read_results(work.results)["tiny"]
    assert kept == replace(resumed, labelled=list(resumed.labelled), about=kept.about)
    assert set(kept.about["packages"]) == {"apatite", "torch", "monai", "numpy"}


def test_a_clock_counts_work_that_was_done_twice_once(tmp_path: Path) -> None:
    time_s = [0.0]

    def steps(first: int, last: int):
        for step in range(first, last):
            time_s[0] += 2.0
            yield {"step": step}

    path = tmp_path / "clock.jsonl"
    piece = StepClock(path=path, now=lambda: time_s[0])
    iterator = piece(steps(0, 100), "training")
    for _ in range(13):
        next(iterator)
    time_s[0] += 1000  # nobody trains in between
    again = StepClock(path=path, now=lambda: time_s[0])
    for _ in again(steps(10, 20), "training"):
        pass
    assert again.total() == (20, 40.0)
    assert again.spent_by(12) == pytest.approx(24.0)


def test_as_long_as_others_means_their_seconds_at_the_own_pace(work: Work, tiny) -> None:
    for name, steps, seconds in (("pretrain-s0", 100, 30.0), ("tuned-10-s0", 50, 60.0), ("scratch-10-s0", 50, 50.0)):
        settings = ours.settings_of(ROWS[name])
        write_result(work.result(name), Result(row=name, settings=settings, config={}, steps=steps, training_s=seconds))
    # 50 steps of a tuned row cost what those of the faster scratch row cost: 30 + 50 seconds at a second a step.
    config = ours.finetune_config_of(ROWS["scratch-equal-time-10-s0"], work)
    assert (config.steps, config.check_every) == (80, 80)


# The peer


def small_peer(**changes) -> peer.PeerConfig:
    return peer.PeerConfig(crop=CROP, windows_hu=WINDOWS, filters=(4, 8, 8), is_bf16=False, **changes)


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_the_peer_goes_on_where_it_was(work: Work, tiny, tmp_path) -> None:
    prepared = open_view(work, "peer", ["body-0", "body-1"])
    config = small_peer(most_steps=4, budget_s=100.0)
    batches = peer.peer_batches(prepared, config, tiny)
    whole = peer.make_network(config, 2)
    assert peer.train_peer(whole, batches, config, tmp_path / "a", now=lambda: 0.0)[0] == 4
    stopped = replace(config, most_steps=1)
    peer.train_peer(peer.make_network(config, 2), batches, stopped, tmp_path / "b", now=lambda: 0.0)
    resumed = peer.make_network(config, 2)
    assert peer.train_peer(resumed, batches, config, tmp_path / "b", now=lambda: 0.0)[0] == 4
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], fresh) for name, fresh in weights(peer.make_network(config, 2)).items())


def test_the_peer_stops_when_its_seconds_are_over(work: Work, tiny, tmp_path) -> None:
    prepared = open_view(work, "peer", ["body-0"])
    ticks = iter(float(tick) for tick in range(1000))
    config = small_peer(budget_s=12.0, save_every_s=1e9)
    batches = peer.peer_batches(prepared, config, tiny)
    steps, seconds = peer.train_peer(
        peer.make_network(config, 2), batches, config, tmp_path / "p", now=lambda: next(ticks)
    )
    assert 12 <= seconds < 16
    assert 1 <= steps < 12
    assert peer.spent_in(tmp_path / "p") == seconds
    assert peer.train_peer(peer.make_network(config, 2), batches, config, tmp_path / "p")[0] == steps


def test_an_organ_nobody_looked_for_teaches_the_peer_nothing(work: Work, tiny) -> None:
    """body-1 has only the left organ annotated: the right one's logits get no gradient."""
    prepared = open_view(work, "peer", ["body-1"])
    config = small_peer()
    batch = peer.peer_batches(prepared, config, tiny)(0)
    network = peer.make_network(config, 2)
    before = weights(network)["network.output_block.conv.conv.bias"]
    peer._step(network, torch.optim.SGD(network.parameters(), lr=1.0), batch, config)
    after = network.network.output_block.conv.conv.bias.detach()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_peer_row_is_judged_on_the_same_cases_as_ours(work: Work, tiny, monkeypatch) -> None:
    monkeypatch.setattr(peer_row, "peer_config", lambda row, budget_s: small_peer(most_steps=1, budget_s=budget_s))
    found = peer_row.run_peer(replace(TINY, name="peer-tiny", kind="peer"), work, budget_s=100.0)
    ours_found = ours.run_finetuning(TINY, work)
    keys = [[(o["case_id"], o["label"]) for o in result.outcomes] for result in (found, ours_found)]
    assert keys[0] == keys[1]
    assert found.labelled == ours_found.labelled
    assert (found.steps, found.num_annotated) == (1, ours_found.num_annotated)


# The table


def fabricated(name: str, dice: dict[tuple[str, int], tuple[int, int, int]], seconds: float = 10.0) -> Result:
    """A row whose counts are given: true positive, false positive, false negative of case and label."""
    outcomes = [
        {
            "case_id": case,
            "patient_id": case,
            "label": label,
            "true_positive": t,
            "false_positive": p,
            "false_negative": n,
        }
        for (case, label), (t, p, n) in dice.items()
    ]
    row = ROWS[name]
    settings = ours.settings_of(row)
    return Result(row=name, settings=settings, config={}, steps=7, training_s=seconds, outcomes=outcomes)


# Dice of the mandible (7): 0.5, 1.0; of the larynx (6): 0.2 in one case, not there in the other, where nothing counts.
SCRATCH = {("a", 7): (1, 1, 1), ("b", 7): (3, 0, 0), ("a", 6): (1, 4, 4), ("b", 6): (0, 5, 0)}
TUNED = {("a", 7): (3, 1, 1), ("b", 7): (1, 1, 1), ("a", 6): (3, 2, 2), ("b", 6): (0, 0, 0)}


def test_the_mean_is_over_organs_of_the_mean_over_their_cases() -> None:
    scores = scores_of(fabricated("scratch-10-s0", SCRATCH))
    assert scores.labels == (6, 7)
    np.testing.assert_allclose(scores.dice, [[0.2, 0.5], [np.nan, 1.0]])
    assert organ_mean(scores.dice) == pytest.approx((0.2 + 0.75) / 2)


def test_a_difference_by_hand_and_the_spread_of_two_seeds() -> None:
    results = {
        "scratch-10-s0": fabricated("scratch-10-s0", SCRATCH),
        "tuned-10-s0": fabricated("tuned-10-s0", TUNED),
        "scratch-10-s1": fabricated("scratch-10-s1", SCRATCH),
        "tuned-10-s1": fabricated("tuned-10-s1", SCRATCH),
    }
    standard = Comparison(
        first=Condition(kind="tuned", labels=10), second=Condition(kind="scratch", labels=10), equal="steps"
    )
    found = difference(standard, results)
    assert found is not None
    # Seed 0: tuned has 0.75 and 0.5 on the mandible, 0.6 on the larynx; seed 1 has no difference.
    of_seed_0 = (0.6 + 0.625) / 2 - (0.2 + 0.75) / 2
    assert found.by_seed == pytest.approx((of_seed_0, 0.0))
    assert found.spread == pytest.approx(of_seed_0)
    assert found.mean_dice.value == pytest.approx(of_seed_0 / 2)
    assert found.by_organ[6].value == pytest.approx(0.2)
    assert found.by_organ[7].value == pytest.approx(-0.0625)
    assert found.ratio == pytest.approx((0.475 + of_seed_0 / 2) / 0.475)
    assert difference(replace(standard, second=Condition(kind="peer-equal-time", labels=10)), results) is None


def test_rows_that_were_judged_on_different_cases_are_not_compared() -> None:
    results = {
        "scratch-10-s0": fabricated("scratch-10-s0", SCRATCH),
        "tuned-10-s0": fabricated("tuned-10-s0", {key: counts for key, counts in TUNED.items() if key[0] == "a"}),
    }
    with pytest.raises(ValueError, match="different cases"):
        difference(comparisons()[0], results)


PRETRAIN = {"kind": "pretrain", "variant": "standard"}


def test_total_time_counts_pre_training() -> None:
    results = {
        "pretrain-s0": Result(row="pretrain-s0", settings=PRETRAIN, config={}, steps=9, training_s=30.0),
        "tuned-10-s0": fabricated("tuned-10-s0", TUNED, seconds=12.0),
    }
    assert Condition(kind="tuned", labels=10).total_s(results, 0) == 42.0
    assert Condition(kind="tuned", labels=10, variant="embedding").total_s(results, 0) is None


def test_the_page_names_what_is_open_and_the_last_line_what_was_found(tmp_path, capsys) -> None:
    for name, counts in (("scratch-10-s0", SCRATCH), ("tuned-10-s0", TUNED)):
        write_result(tmp_path / "results" / f"{name}.json", fabricated(name, counts))
    where = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "page.md"), "--work", str(tmp_path)]
    assert openkbp_fewshot.main(["--table", *where]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["differences"]["tuned_10-scratch_10"]["mean_dice"] == pytest.approx(0.1375)
    assert last["differences"]["tuned_10-scratch_10"]["spread"] is None
    assert (last["rows_done"], last["rows_done"] + last["rows_open"]) == (2, len(ROWS))
    text = (tmp_path / "page.md").read_text()
    assert "| tuned 10 − scratch 10 | steps | +0.138" in text
    still = text.split("## Open")[1]
    assert "`tuned-40-s0`" in still
    assert "`tuned-10-s0`" not in still
    assert openkbp_fewshot.main(["--list", *where]) == 0
    assert "tuned-10-s0                      done" in capsys.readouterr().out


@pytest.mark.parametrize(("larynx", "code"), [(0.0, 0), (0.9, 1)])
def test_the_peer_check_fails_outside_its_tolerance(tmp_path, larynx, code, capsys) -> None:
    seen = {**SEEN, "larynx": larynx}
    counts = {}
    for label, dice in enumerate(seen.values(), start=1):
        shared = round(100 * dice)
        counts["a", label] = (shared, 100 - shared, 100 - shared)
    data = tmp_path / "data"
    data.mkdir()
    (data / "cases.csv").write_text("")
    write_result(tmp_path / "results" / f"{PEER_CHECK}.json", fabricated(PEER_CHECK, counts))
    where = ["--results", str(tmp_path / "results"), "--data", str(data), "--work", str(tmp_path)]
    assert openkbp_fewshot.main(["--peer-check", *where]) == code
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["peer_check"]["is_inside"] == (code == 0)


def test_a_row_waits_for_what_it_needs(tmp_path, capsys) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "cases.csv").write_text("")
    where = ["--results", str(tmp_path / "results"), "--data", str(data), "--work", str(tmp_path)]
    assert openkbp_fewshot.main(["--row", "tuned-10-s0", *where]) == 1
    assert "needs pretrain-s0 first" in capsys.readouterr().out
    assert openkbp_fewshot.main(["--row", "tuned-10-s7", *where]) == 2


def test_the_committed_page_is_what_the_rows_give() -> None:
    results = read_results(openkbp_fewshot.RESULTS)
    assert openkbp_fewshot.PAGE.read_text(encoding="utf-8") == page(results)
    assert summary(results)["rows_done"] == len(results)
