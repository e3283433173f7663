"""A run that was stopped anywhere ends as if it had never been stopped."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from apatite.batch.lease import hold
from apatite.core.errors import BusyError, ConfigError, ModelError, StoppedError
from apatite.core.stop import StopRequest
from apatite.engine import run as module
from apatite.engine.checkpoint import load_state
from apatite.engine.distributed import ALONE
from apatite.engine.optim import build_optimizer
from apatite.engine.place import Place
from apatite.engine.run import Pace, TrainingRun
from apatite.io.run_folder import RunFolder

PACE = Pace(save_every_s=0.0, check_every=5, journal_every=1)


def place_at(path: Path) -> Place:
    """A folder of this process alone that nobody asked to stop."""
    return Place(folder=RunFolder(path=path), world=ALONE, stop=StopRequest(), is_resumed=False)


@pytest.fixture
def start(make, plan, tmp_path):
    """A run in a folder of its name, as a new process would make it."""

    def build(name: str, pace: Pace = PACE, **changes) -> TrainingRun:
        task, optimizer = make()
        return TrainingRun(place_at(tmp_path / name), task, optimizer, replace(plan, **changes), pace)

    return build


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.task.module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def steps_of(run: TrainingRun) -> list[int]:
    return [row["step"] for row in run.journal.rows()]


@pytest.mark.parametrize("cuts", [(1,), (5,), (7,), (11,), (3, 4, 9), tuple(range(1, 12))])
def test_losses_and_weights_are_bit_equal_after_interruptions(start, draw_batches, cuts):
    whole = start("whole")
    for _ in whole.rows(draw_batches, lambda done: {"score": float(done)}):
        pass
    for cut in cuts:
        part = start("part")
        first = part.resume()
        for row in part.rows(draw_batches, lambda done: {"score": float(done)}, first):
            if row["step"] + 1 == cut:
                break
        with part.folder.metrics.open("ab") as file:
            file.write(b'{"step": 99, "lo')
    part = start("part")
    assert part.resume() == cuts[-1]
    for _ in part.rows(draw_batches, lambda done: {"score": float(done)}, cuts[-1]):
        pass
    assert part.journal.rows() == whole.journal.rows()
    assert steps_of(part) == list(range(12))
    assert same(weights(part), weights(whole))
    assert load_state(part.folder.last)[1] == load_state(whole.folder.last)[1]


def test_lost_steps_are_done_again_and_journalled_once(start, draw_batches, monkeypatch):
    """The last commit lies some steps behind; rows after it are of steps that will be repeated."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    whole = start("whole")
    for _ in whole.rows(draw_batches):
        pass
    part = start("part", replace(PACE, save_every_s=4.0))
    for row in part.rows(draw_batches):
        clock[0] += 1.0
        if row["step"] == 6:
            break
    assert load_state(part.folder.last)[1]["step"] == 5
    assert steps_of(part) == list(range(7))
    part = start("part")
    assert part.resume() == 5
    for _ in part.rows(draw_batches, first_step=5):
        pass
    assert part.journal.rows() == whole.journal.rows()
    assert same(weights(part), weights(whole))


def test_a_run_killed_before_its_first_commit_starts_anew(start, draw_batches):
    slow = replace(PACE, save_every_s=1e9)
    part = start("part", slow)
    for row in part.rows(draw_batches):
        if row["step"] == 3:
            break
    assert not part.folder.last.exists()
    assert steps_of(part) == [0, 1, 2, 3]
    part = start("part", slow)
    assert part.resume() == 0
    for _ in part.rows(draw_batches):
        pass
    assert steps_of(part) == list(range(12))
    assert load_state(part.folder.last)[1]["step"] == 12


def test_best_is_the_highest_check_and_can_be_put_back(start, draw_batches):
    run = start("run", replace(PACE, check_every=2))
    scores = {2: 0.1, 4: 0.7, 6: 0.3, 8: 0.7, 10: float("nan"), 12: 0.2}
    at: dict[int, dict[str, torch.Tensor]] = {}

    def check(done: int) -> dict[str, float]:
        assert not run.task.module.training
        assert not torch.is_grad_enabled()
        at[done] = weights(run)
        return {"score": scores[done]}

    rows = list(run.rows(draw_batches, check))
    assert sorted(at) == [2, 4, 6, 8, 10, 12]
    assert [row["step"] + 1 for row in rows if "score" in row] == sorted(at)
    tensors, values = load_state(run.folder.best)
    assert values == {"step": 4, "score": 0.7}
    assert run.best_score == 0.7
    run.load_best()
    assert same(weights(run), at[4])
    assert same({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, at[4])


def test_what_was_best_before_a_kill_is_remembered(start, draw_batches):
    scores = {5: 0.9, 10: 0.5, 12: 0.6}
    part = start("part")
    for row in part.rows(draw_batches, lambda done: {"score": scores[done]}):
        if row["step"] == 6:
            break
    part = start("part")
    for _ in part.rows(draw_batches, lambda done: {"score": scores[done]}, part.resume()):
        pass
    assert part.best_score == 0.9
    assert load_state(part.folder.best)[1]["step"] == 5


def test_the_last_step_is_checked_saved_and_journalled_whatever_the_pace(start, draw_batches):
    run = start("run", Pace(save_every_s=1e9, check_every=1000, journal_every=1000))
    last = list(run.rows(draw_batches, lambda done: {"score": 1.0}))[-1]
    assert last["score"] == 1.0
    assert steps_of(run) == [11]
    assert load_state(run.folder.last)[1]["step"] == 12
    assert run.folder.best.exists()


def test_every_check_is_journalled_also_one_without_a_score(start, draw_batches):
    run = start("run", Pace(save_every_s=1e9, check_every=5, journal_every=4))
    for _ in run.rows(draw_batches, lambda done: {"rank": float(done)}):
        pass
    assert [(row["step"], row.get("rank")) for row in run.journal.rows()] == [
        (3, None),
        (4, 5.0),
        (7, None),
        (9, 10.0),
        (11, 12.0),
    ]
    assert not run.folder.best.exists()


def test_without_a_check_the_last_weights_stay(start, draw_batches):
    run = start("run")
    for _ in run.rows(draw_batches):
        pass
    before = weights(run)
    run.load_best()
    assert not run.folder.best.exists()
    assert same(weights(run), before)


@pytest.mark.parametrize("changes", [{"steps": 13}, {"seed": 4}])
def test_another_length_or_seed_is_refused(start, draw_batches, changes):
    next(start("run").rows(draw_batches))
    run = start("run")
    for row in run.rows(draw_batches):
        if row["step"] == 1:
            break
    with pytest.raises(ConfigError, match="12 steps with seed 3"):
        start("run", **changes).resume()


@pytest.mark.parametrize(
    ("here", "text"), [({"cpu": "other"}, "cpu"), ({"torch": "0.1"}, "torch"), ({"processes": 2}, "proc")]
)
def test_another_machine_is_refused_unless_accepted(start, draw_batches, monkeypatch, here, text):
    for row in start("run").rows(draw_batches):
        if row["step"] == 1:
            break
    real = module.machine
    monkeypatch.setattr(module, "machine", lambda *asked: real(*asked) | here)
    run = start("run")
    with pytest.raises(ConfigError, match=f"{text}.*--inexact-resume"):
        run.resume()
    assert not run.folder.resumes.exists()
    run.place = replace(run.place, is_inexact=True)
    assert run.resume() == 2
    noted = json.loads(run.folder.resumes.read_text())
    assert (noted["step"], noted["is_exact"]) == (2, False)
    assert text in noted["differences"][0]


def test_a_run_that_is_asked_to_stop_commits_the_step_it_is_at(start, draw_batches):
    run = start("run", pace=Pace(save_every_s=1e9, check_every=5, journal_every=5))
    with pytest.raises(StoppedError, match="SIGTERM after step 3 of 12"):
        for row in run.rows(draw_batches):
            if row["step"] == 1:
                run.place.stop.receive(signal.SIGTERM, None)
    again = start("run")
    assert again.resume() == 3


def test_a_folder_that_was_given_to_another_process_is_left_alone(start, draw_batches):
    run = start("run", pace=Pace(save_every_s=0.0, check_every=5, journal_every=100))
    with hold(run.folder.path, "pretrain") as lease:
        run.place = replace(run.place, lease=lease)
        rows = run.rows(draw_batches)
        next(rows)
        before = run.folder.last.read_bytes()
        other = replace(lease.holder, nonce="of another process")
        lease.path.write_text(other.to_json())
        with pytest.raises(BusyError, match="LEASE_LOST"):
            next(rows)
        assert run.folder.last.read_bytes() == before
        lease.path.unlink()


def test_a_request_at_the_last_step_changes_nothing(start, draw_batches):
    run = start("run")
    rows = run.rows(draw_batches)
    for row in rows:
        if row["step"] == 10:
            run.place.stop.receive(signal.SIGTERM, None)
    assert start("run").resume() == 12


def test_another_architecture_is_refused(start, draw_batches, plan, tmp_path):
    run = start("run")
    for row in run.rows(draw_batches):
        if row["step"] == 1:
            break
    other = start("run").task
    other.net.append(torch.nn.Linear(24, 24))
    with pytest.raises(ModelError, match="another architecture"):
        TrainingRun(run.place, other, build_optimizer(other, plan.optim), plan, PACE).resume()


def test_nothing_half_written_stays_behind(start, draw_batches):
    run = start("run")
    for _ in run.rows(draw_batches, lambda done: {"score": float(done)}):
        pass
    found = sorted(str(path.relative_to(run.folder.path)) for path in run.folder.path.rglob("*") if path.is_file())
    assert found == ["checkpoints/best", "checkpoints/last", "metrics.jsonl"]
