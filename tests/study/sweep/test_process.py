"""Rows in processes of their own: killed, stopped at the limit, dead without a word."""

import os
import signal
import threading
import time

import pytest

from apatite.batch.lease import read_holder
from apatite.io.model_package import read_package
from apatite.io.run_folder import RunFolder
from apatite.study.sweep import child, process
from apatite.study.sweep.folder import SweepFolder
from apatite.study.sweep.process import do_in_child
from apatite.study.sweep.record import outcomes_of, read_record
from apatite.study.sweep.run import SweepConfig, run_sweep

ROW = "vit-xs-p4x8x8-mae-scratch-nall-s0-perfect"
STEPS = 24


class Once:
    """Do a row in its child until the run has committed a state; then kill the child, or let the time be over."""

    def __init__(self, folder: SweepFolder, *, kills: bool) -> None:
        self.run, self.kills, self.is_over = RunFolder(path=folder.run(ROW)), kills, False
        self.said: list[str] = []

    def __call__(self, job, is_over, title, watch):
        before = self._state()

        def look() -> bool:
            if self._state() != before and self.said and not self.is_over:
                self.is_over = True
                if self.kills:
                    os.kill(read_holder(self.run.path / "lease.json").pid, signal.SIGKILL)
            return is_over() or (self.is_over and not self.kills)

        def seen(items, stage, total=None):
            self.said.append(f"{stage} of {total}")
            yield from items

        return do_in_child(job, look, title, seen)

    def _state(self) -> float:
        return self.run.last.stat().st_mtime_ns if self.run.last.exists() else 0.0


@pytest.fixture
def long_grid(tiny_grid):
    """A run that commits its state after every step."""
    change = [*tiny_grid({}, steps=STEPS).finetune.change, "save_every_s=0"]
    return tiny_grid({}, finetune={"recipe": "sweep", "change": change})


def test_a_row_that_was_killed_and_stopped_ends_as_if_it_had_not_been(
    long_grid, tiny_grid, head_study, tmp_path, in_process, monkeypatch
):
    monkeypatch.setattr(process, "POLL_S", 0.02)
    given, out = {"": head_study.prepared}, tmp_path / "out"
    folder, run = SweepFolder(path=out), RunFolder(path=out / "runs" / ROW)

    killed = Once(folder, kills=True)
    state = run_sweep(long_grid, given, out, do_row=killed)
    assert (state.exit_code, state.rows[0].state) == (8, "failed")
    assert state.rows[0].error["code"] == "WORKER_KILLED" and "SIGKILL" in state.rows[0].error["what"]
    assert f"1/1 {ROW}" in killed.said[0] and f"fine-tuning of {STEPS}" in killed.said[0]

    state = run_sweep(long_grid, given, out, SweepConfig(retries_failed=True), do_row=Once(folder, kills=False))
    assert (state.exit_code, state.rows[0].state, state.stopped_by) == (75, "begun", "minutes")
    assert state.rows[0].seconds > 0 and not folder.failure(ROW).exists()
    assert run.last.exists() and not run.model.exists() and not (run.path / "lease.json").exists()

    assert run_sweep(long_grid, given, out, do_row=in_process).exit_code == 0
    assert len(run.resumes.read_text().splitlines()) == 2
    whole = tiny_grid({}, steps=STEPS)
    _equal_to_an_uninterrupted_one(whole, given, out, tmp_path, in_process)


def _equal_to_an_uninterrupted_one(grid, given, out, tmp_path, in_process):
    run_sweep(grid, given, tmp_path / "whole", do_row=in_process)
    found, whole = (read_record(folder, ROW) for folder in (out, tmp_path / "whole"))
    assert found.digests["model"] == whole.digests["model"] and found.curve == whole.curve
    assert outcomes_of(found, "test") == outcomes_of(whole, "test")
    weights = [read_package(folder / "runs" / ROW / "model").weights for folder in (out, tmp_path / "whole")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_process_that_dies_without_a_word_leaves_its_last_words(long_grid, head_study, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "MODULE", "no.such.module")
    state = run_sweep(long_grid, {"": head_study.prepared}, tmp_path / "out")
    error = state.rows[0].error
    assert (state.rows[0].state, error["code"]) == ("failed", "WORKER_KILLED")
    assert ("exit code 1" in error["what"] and "no.such.module" in error["tail"]) or "No module" in error["tail"]
    assert "No module" in SweepFolder(path=tmp_path / "out").log(ROW).read_text()


def test_a_child_ends_when_its_parent_is_gone(monkeypatch):
    """The lifeline is stdin: once it is closed the child asks itself to stop."""
    reading, writing = os.pipe()
    monkeypatch.setattr(child.os, "read", lambda _descriptor, count, read=os.read: read(reading, count))
    killed = threading.Event()
    monkeypatch.setattr(child.os, "kill", lambda pid, number: killed.set() if number == signal.SIGTERM else None)
    waiting = threading.Thread(target=child._stop_with_parent, daemon=True)
    waiting.start()
    time.sleep(0.05)
    assert not killed.is_set()
    os.close(writing)
    assert killed.wait(5)
    waiting.join(5)
    os.close(reading)
