import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from apatite.batch.lease import hold
from apatite.core.config import write_yaml
from apatite.core.errors import BusyError, ConfigError, StorageError
from apatite.engine.precision import Precision
from apatite.io.model_package import read_package
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.segment.labelled import labelled_rows
from apatite.study.sweep.estimate import START_S
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.folder import SweepFolder
from apatite.study.sweep.plan import settle_plan
from apatite.study.sweep.process import Ended
from apatite.study.sweep.record import outcomes_of, read_record, read_records
from apatite.study.sweep.run import Limit, SweepConfig, list_sweep, run_sweep
from apatite.study.sweep.settings import finetune_config

PAIR = {"axes": {"init": ["scratch", "mae", "scratch-equal-time"]}}
SCRATCH, ENCODER, TUNED, EQUAL = (
    "vit-xs-p4x8x8-mae-scratch-nall-s0-perfect",
    "pretrain-mae-xs-p4x8x8-s0",
    "vit-xs-p4x8x8-mae-mae-nall-s0-perfect",
    "vit-xs-p4x8x8-mae-scratch-equal-time-nall-s0-perfect",
)


def states(state):
    return {row.row.name: row.state for row in state.rows}


@pytest.fixture
def pair(tiny_grid):
    return tiny_grid(PAIR)


def test_every_row_leaves_a_record(pair, head_study, tmp_path, in_process):
    out, given = tmp_path / "out", {"": head_study.prepared}
    assert set(states(list_sweep(pair, given, out)).values()) == {"open"}
    assert not out.exists()
    state = run_sweep(pair, given, out, do_row=in_process)
    assert set(states(state)) == {SCRATCH, ENCODER, TUNED, EQUAL} and not state.of("failed")
    assert (state.exit_code, state.stopped_by, state.left_s) == (0, "", 0.0)
    found = {record.name: record for record in read_records(out)}
    tuned, scratch, encoder, equal = (found[name] for name in (TUNED, SCRATCH, ENCODER, EQUAL))
    run = RunFolder(path=out / "runs" / TUNED)

    assert tuned.axes["init"] == "mae" and tuned.kind == "vit" and tuned.steps == 8
    assert [step for step, _ in tuned.curve] == [2, 4, 6, 8]
    assert tuned.patch_mm == (8 * 1.0, 8 * 1.25, 4 * 2.5) and tuned.crop == (8, 16, 24)
    assert tuned.digests["model"] == read_package(run.model).digest
    assert tuned.digests["encoder"] == encoder.digests["model"] != ""
    assert tuned.seconds["pretrain"] == encoder.seconds["pretrain"] > 0 and "pretrain" not in scratch.seconds
    assert min(tuned.seconds[stage] for stage in ("finetune", "calibrate", "evaluate")) > 0
    assert encoder.splits == {"pretrain": {"series": 10, "patients": 9}}  # 5 + 5 series, one patient twice
    assert tuned.splits["finetune"] == {"series": 5, "patients": 5, "positive": 4}
    assert tuned.domains == encoder.domains == ["phantom"]
    assert tuned.splits["test"] == {"series": 7, "patients": 7, "positive": 6}
    assert tuned.machine["threads"] == 1 and tuned.config["decoder"]["mae"]["dim"] == 48
    place = os.path.relpath(head_study.prepared, out)
    assert tuned.command == f"apatite sweep grids/tiny.yaml -d perfect={place} -o . --only {TUNED}"
    assert (out / "grids" / "tiny.yaml").exists()

    test = outcomes_of(tuned, "test")
    assert set(test) == {"raw", "calibrated"} and len(test["raw"]) == 14  # seven cases, gated and ungated
    assert {row.case_id for row in test["raw"]}.isdisjoint(
        {row.case_id for row in outcomes_of(tuned, "development")["raw"]}
    )
    summary = tuned.summary["test"]["raw"][0]
    dice = np.mean([row.overlap.dice for row in test["raw"] if row.is_positive and row.hu_gate is None])
    assert (summary["reading"], summary["num_positive"]) == ("ungated", 6)
    assert summary["estimates"]["dice"]["value"] == pytest.approx(dice)
    assert tuned.calibration is not None and "resampled_thresholds" not in tuned.calibration["labels"]["1"]["gated"]
    assert set(tuned.calibration["labels"]["1"]) == {"ungated", "gated"}
    assert len(run.read_looks()) == 2
    # The extra steps take what pre-training took, at the pace from scratch.
    pace = scratch.seconds["finetune"] / scratch.steps
    assert equal.steps - 8 == round(encoder.seconds["pretrain"] / pace) >= 1
    assert "pretrain" not in equal.seconds and "encoder" not in equal.digests

    # Nothing is done twice; another grid shares the rows, and the folder knows its data.
    def never(*_):
        raise AssertionError("a finished row was begun")

    assert run_sweep(pair, {}, out, do_row=never).exit_code == 0


def test_one_row_fails_and_the_others_go_on(tiny_grid, head_study, tmp_path, in_process):
    grid = tiny_grid({"name": "bad", "pretrain": ["optim.lr=1e30"], "axes": {"init": ["mae"]}}, {"axes": {}})
    out, given = tmp_path / "out", {"": head_study.prepared}
    state = run_sweep(grid, given, out, do_row=in_process)
    bad, tuned = "pretrain-mae-xs-p4x8x8-s0-bad", "vit-xs-p4x8x8-mae-mae-nall-s0-perfect-bad"
    assert states(state) == {bad: "failed", tuned: "blocked", SCRATCH: "done"}
    assert state.exit_code == 8 and state.of("failed")[0].error["code"] == "NONFINITE"
    begun = []

    def watched(job, is_over, title, watch):
        begun.append(job.row)
        return in_process(job, is_over, title, watch)

    assert run_sweep(grid, given, out, do_row=watched).exit_code == 8 and begun == []
    assert run_sweep(grid, given, out, SweepConfig(retries_failed=True), do_row=watched).exit_code == 8
    assert begun == [bad]


def test_more_labels_than_there_are_leave_rows_out(tiny_grid, head_study, tmp_path, pretended):
    grid = tiny_grid({"axes": {"labels": [2, 5, 6], "draw": [1], "init": ["scratch"]}})
    state = run_sweep(grid, {"": head_study.prepared}, tmp_path / "out", do_row=pretended)
    assert [row.state for row in state.rows] == ["done", "done", "left out"] and state.exit_code == 0


def test_fewer_labels_are_a_subset_of_more(tiny_grid, head_study):
    prepared = head_study.open()
    for draw in (0, 1, 2):
        grid = tiny_grid({"axes": {"labels": [1, 2, 4, "all"], "draw": [draw]}})
        chosen = [set(labelled_rows(prepared, finetune_config(grid, row))) for row in rows_of(grid).values()]
        assert [len(found) for found in chosen] == [1, 2, 4, 5]
        assert chosen[0] < chosen[1] < chosen[2] < chosen[3]


def test_a_row_learns_from_its_reader_and_is_judged_by_the_truth(
    tiny_grid, head_study, reader_heads, tmp_path, in_process
):
    grid = tiny_grid({"axes": {"reader": ["perfect", "reader"]}})
    given = {"perfect": head_study.prepared, "reader": reader_heads}
    out = tmp_path / "out"
    assert run_sweep(grid, given, out, do_row=in_process).exit_code == 0
    true, read = (read_record(out, f"vit-xs-p4x8x8-mae-scratch-nall-s0-{reader}") for reader in ("perfect", "reader"))
    assert read.digests["data"] == Prepared.open(reader_heads).about["manifest_sha256"] != true.digests["data"]
    assert read.digests["truth"] == true.digests["truth"] == true.digests["data"]
    assert read.digests["model"] != true.digests["model"]
    for split in ("development", "test"):
        references = [[row.reference_mm3 for row in outcomes_of(record, split)["raw"]] for record in (true, read)]
        assert references[0] == references[1]
    with pytest.raises(ConfigError, match="no data of the reader"):
        run_sweep(grid, {"perfect": head_study.prepared}, tmp_path / "other", do_row=in_process)
    with pytest.raises(ConfigError, match="whose labels"):
        run_sweep(grid, {"": head_study.prepared}, tmp_path / "other", do_row=in_process)
    with pytest.raises(ConfigError, match="other reader, too"):
        run_sweep(grid, given | {"reader": head_study.prepared}, tmp_path / "other", do_row=in_process)
    with pytest.raises(ConfigError, match="began with other perfect data"):
        run_sweep(tiny_grid({}), {"perfect": reader_heads}, out, do_row=in_process)


def test_data_of_another_tier_or_study_are_refused(tiny_grid, head_study, body_study, tmp_path, in_process):
    with pytest.raises(ConfigError, match="for small regions"):
        run_sweep(tiny_grid({}, tier="small"), {"": head_study.prepared}, tmp_path / "out", do_row=in_process)
    grid = tiny_grid({"axes": {"reader": ["perfect", "reader"]}})
    with pytest.raises(ConfigError, match="other cases"):
        run_sweep(
            grid, {"perfect": head_study.prepared, "reader": body_study.prepared}, tmp_path / "out", do_row=in_process
        )
    assert not (tmp_path / "out").exists()


def test_two_sweeps_exclude_each_other(pair, head_study, tmp_path, in_process):
    with hold(tmp_path / "out", "sweep"), pytest.raises(BusyError, match="apatite sweep"):
        run_sweep(pair, {"": head_study.prepared}, tmp_path / "out", do_row=in_process)


def test_a_disk_that_fails_ends_the_sweep(pair, head_study, tmp_path):
    def full(job, is_over, title, watch):
        return Ended(how="failed", error=StorageError("cannot write", where="x", code="NO_SPACE").to_dict())

    with pytest.raises(StorageError, match="cannot write"):
        run_sweep(pair, {"": head_study.prepared}, tmp_path / "out", do_row=full)
    assert not SweepFolder(path=tmp_path / "out").failure(SCRATCH).exists()


def test_only_some_rows_with_what_they_need(pair, head_study, tmp_path, in_process):
    given = {"": head_study.prepared}
    assert list(states(list_sweep(pair, given, tmp_path / "out", "*-mae-mae-*"))) == [ENCODER, TUNED]
    with pytest.raises(ConfigError, match="no row"):
        list_sweep(pair, given, tmp_path / "out", "*-unknown-*")


def test_other_settings_under_the_same_name_are_refused(tiny_grid, head_study, tmp_path, pretended):
    given, out = {"": head_study.prepared}, tmp_path / "out"
    run_sweep(tiny_grid({}), given, out, do_row=pretended)
    with pytest.raises(ConfigError, match="other settings"):
        run_sweep(tiny_grid({}, steps=9), given, out, do_row=pretended)
    grid = tiny_grid({"name": "nine", "finetune": ["steps=9"]})
    assert run_sweep(grid, given, out, do_row=pretended).exit_code == 0
    assert len(read_records(out)) == 2


def test_a_run_begun_with_other_settings_is_not_gone_on_with(tiny_grid, head_study, tmp_path, in_process):
    """Interrupted before its record; then the grid was changed."""
    (row,) = rows_of(tiny_grid({})).values()
    folder, prepared = SweepFolder(path=tmp_path), head_study.open()
    config = finetune_config(tiny_grid({}), row)
    settle_plan(folder, row, config, prepared)
    settle_plan(folder, row, replace(config, steps=9), prepared)  # nothing was begun yet
    write_yaml(RunFolder(path=folder.run(row.name)).config, config)
    settle_plan(folder, row, replace(config, steps=9), prepared)
    with pytest.raises(ConfigError, match="other settings"):
        settle_plan(folder, row, config, prepared)
    # A plan of before there were other networks is of the first of them.
    plan = json.loads(folder.plan(row.name).read_text())
    assert plan["axes"].pop("network") == "vit"
    folder.plan(row.name).write_text(json.dumps(plan))
    settle_plan(folder, row, replace(config, steps=9), prepared)


def test_what_was_measured_for_a_network_is_shared_by_its_twins(
    tiny_grid, head_study, tmp_path, in_process, monkeypatch
):
    measured = []

    def measure(*_):
        measured.append(Precision(head_multiple=16, threads=1))
        return measured[-1], {}

    monkeypatch.setattr("apatite.segment.finetune.measure_run", measure)
    change = ["steps=1", "check_every=1", "batch=4"]
    grid = tiny_grid({"axes": {"seed": [0, 1]}}, finetune={"recipe": "sweep", "change": change})
    run_sweep(grid, {"": head_study.prepared}, tmp_path / "out", do_row=in_process)
    one, two = (record.config["precision"]["head_multiple"] for record in read_records(tmp_path / "out"))
    assert (len(measured), one, two) == (1, 16, 16)
    assert len(list((tmp_path / "out" / "precision").iterdir())) == 1


def test_a_signal_ends_the_sweep_with_open_rows(pair, head_study, tmp_path, in_process):
    def stopped(job, is_over, title, watch):
        assert not is_over()
        signal.raise_signal(signal.SIGTERM)
        assert is_over()
        return Ended(how="stopped")

    state = run_sweep(pair, {"": head_study.prepared}, tmp_path / "out", do_row=stopped)
    assert (state.exit_code, state.stopped_by) == (75, "SIGTERM")


def test_rows_that_do_not_fit_are_not_begun(tiny_grid, head_study, tmp_path, pretended):
    """Limits of two minutes: pre-training is expected to take three, all else half a minute."""
    begun = []

    def do(job, is_over, title, watch):
        begun.append(title)
        return pretended(job, is_over, title, watch)

    grid = tiny_grid(PAIR, minutes={"pretrain": 3, "vit": 0.5})
    state = run_sweep(grid, {"": head_study.prepared}, tmp_path / "out", SweepConfig(minutes=0.6), do_row=do)
    # Nothing fits into 36 seconds but a row from scratch; a row longer than the limit is begun, to be gone on with.
    assert [title.split(",")[0] for title in begun] == [
        f"1/4 {SCRATCH}",
        f"2/4 {ENCODER}",
        f"3/4 {TUNED}",
        f"4/4 {EQUAL}",
    ]
    assert state.exit_code == 0
    first = float(begun[0].split(", ")[1].split()[0])
    assert first == round((3 * (30 + START_S) + 180 + START_S) / 60)
    with pytest.raises(ConfigError, match="no time"):
        SweepConfig(minutes=0)


def test_when_the_minutes_are_over_the_rest_stays_open(pair, head_study, tmp_path, pretended, monkeypatch):
    now = [0.0]
    limit = lambda total_s: Limit(total_s=total_s, begun=0.0, now=lambda: now[0])  # noqa: E731 - one line
    monkeypatch.setattr("apatite.study.sweep.run.Limit", limit)

    def do(job, is_over, title, watch):
        now[0] += 25.0
        return pretended(job, is_over, title, watch)

    state = run_sweep(pair, {"": head_study.prepared}, tmp_path / "out", SweepConfig(minutes=1), do_row=do)
    # Two rows took 50 of the 60 seconds; a third is expected to take eleven.
    assert [row.state for row in state.rows] == ["done", "done", "open", "open"]
    assert (state.stopped_by, state.exit_code) == ("minutes", 75) and state.left_s > 0
