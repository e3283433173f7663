"""One holder at a time: races, the dead, the silent, the torn."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from apatite.batch import lease as module
from apatite.batch.lease import FILE, Holder, hold, read_holder
from apatite.core.errors import BusyError

NOBODY = 2**22 + 1
"""A process number that Linux never gives."""


def leave(folder: Path, holder: Holder, silent_s: float = 0.0) -> Path:
    """A lease as its holder would have left it, untouched for so long."""
    folder.mkdir(exist_ok=True)
    path = folder / FILE
    path.write_text(json.dumps(asdict(holder)))
    then = time.time() - silent_s
    os.utime(path, (then, then))
    return path


def elsewhere(**changes) -> Holder:
    return replace(Holder.here("pretrain"), host="node-17", place="another boot", **changes)


def refused(folder: Path) -> BusyError:
    with pytest.raises(BusyError) as caught, hold(folder, "finetune"):
        pass
    assert (caught.value.code, caught.value.exit_code, caught.value.where) == ("LEASE_HELD", 75, str(folder))
    return caught.value


def test_it_is_there_while_held_and_gone_after(tmp_path, listing):
    with hold(tmp_path / "run", "pretrain") as held:
        found = read_holder(tmp_path / "run" / FILE)
        assert found == held.holder
        assert (found.pid, found.verb) == (os.getpid(), "pretrain")
        assert listing(tmp_path) == ["run", "run/lease.json"]
        (tmp_path / "run" / "model").mkdir()
    assert listing(tmp_path) == ["run", "run/model"]


def test_a_new_folder_of_which_nothing_came_is_removed(tmp_path, listing):
    with hold(tmp_path / "run", "pretrain"):
        pass
    assert listing(tmp_path) == []
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="bad"), hold(tmp_path / "old", "pretrain"):
        raise ValueError("bad")
    assert listing(tmp_path) == ["old"]


def test_the_second_is_told_who_and_what_the_first_is(tmp_path, listing):
    with hold(tmp_path, "pretrain") as held:
        told = str(refused(tmp_path))
        assert f"`apatite pretrain`, process {os.getpid()} on {held.holder.host}" in told
        assert listing(tmp_path) == ["lease.json"]
        held.require()


@pytest.mark.parametrize(
    "gone",
    [
        replace(Holder.here("pretrain"), pid=NOBODY),
        # The number was given to another process since: to this one.
        replace(Holder.here("pretrain"), started_ticks=Holder.here("pretrain").started_ticks - 1),
    ],
)
def test_of_a_dead_holder_on_this_machine_nothing_is_waited_for(tmp_path, gone, listing):
    path = leave(tmp_path / "run", gone)
    with hold(path.parent, "finetune") as held:
        assert read_holder(path) == held.holder
    assert listing(tmp_path) == ["run"]


def test_a_zombie_holds_nothing(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.DEVNULL)
    status = Path(f"/proc/{child.pid}/stat")
    until = time.monotonic() + 20
    while status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.01)
    ticks = int(status.read_text().rpartition(")")[2].split()[19])
    leave(tmp_path, replace(Holder.here("pretrain"), pid=child.pid, started_ticks=ticks))
    with hold(tmp_path, "finetune"):
        pass
    child.wait()


@pytest.mark.parametrize("is_silent", [False, True])
@pytest.mark.parametrize("skew_s", [-3600.0, 0.0, 3600.0])
def test_a_holder_elsewhere_is_believed_for_a_minute(tmp_path, monkeypatch, is_silent, skew_s):
    """Measured by the clock of the file system, wherever this machine's may be."""
    leave(tmp_path, elsewhere(), silent_s=61.0 if is_silent else 50.0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew_s)
    if not is_silent:
        assert "node-17" in str(refused(tmp_path))
        return
    with hold(tmp_path, "finetune") as held:
        held.require()


def test_a_live_process_of_this_machine_is_never_overtaken(tmp_path):
    """It may have been halted for an hour, and go on: Ctrl-Z, or a suspended job."""
    leave(tmp_path, Holder.here("pretrain"), silent_s=4000.0)
    refused(tmp_path)


@pytest.mark.parametrize("changes", [{"host": "clone"}, {"place": ""}])
def test_a_process_number_says_nothing_about_another_place(changes):
    assert not replace(Holder.here("pretrain"), pid=NOBODY, **changes).is_dead()
    assert replace(Holder.here("pretrain"), pid=NOBODY).is_dead()


def test_a_process_that_may_not_be_looked_at_is_not_dead(monkeypatch):
    """Of another user, where /proc shows only one's own."""

    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not replace(Holder.here("pretrain"), pid=NOBODY).is_dead()


@pytest.mark.parametrize("content", ["", '{"host": "a', "[]", '{"host": "a"}'])
def test_a_torn_lease_is_believed_for_a_minute(tmp_path, content):
    """It was made where there are no hard links, by a process that was killed or is about to go on."""
    path = tmp_path / FILE
    path.write_text(content)
    began = time.monotonic()
    assert "another process" in str(refused(tmp_path))
    assert time.monotonic() - began < 5
    os.utime(path, (time.time() - 61, time.time() - 61))
    with hold(tmp_path, "finetune") as held:
        held.require()


def test_without_hard_links(tmp_path, monkeypatch, listing):
    def refuse(*_paths: object, **_options: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with hold(tmp_path, "pretrain"):
        refused(tmp_path)
    leave(tmp_path, replace(Holder.here("pretrain"), pid=NOBODY))
    with hold(tmp_path, "finetune") as held:
        held.require()
        assert listing(tmp_path) == ["lease.json"]


def test_a_link_that_was_made_although_the_answer_was_lost(tmp_path, monkeypatch):
    """As network file systems do when they repeat a request."""
    real = os.link

    def link(source, target):
        real(source, target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", link)
    with hold(tmp_path, "pretrain") as held:
        held.require()


def test_it_is_touched_while_held_but_only_if_it_is_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    with hold(tmp_path, "pretrain") as held:
        os.utime(held.path, (1e9, 1e9))
        until = time.monotonic() + 10
        while held.path.stat().st_mtime == 1e9:
            assert time.monotonic() < until
            time.sleep(0.01)
        leave(tmp_path, elsewhere(), silent_s=100.0)
        time.sleep(0.2)
        assert module.age_s(held.path) > 90


def test_who_was_silent_for_too_long_notices_and_leaves_the_other_alone(tmp_path):
    other = elsewhere()
    with hold(tmp_path, "pretrain") as held:
        held.require()
        leave(tmp_path, other)
        with pytest.raises(BusyError, match=r"taken over by `apatite pretrain`, process .* on node-17") as caught:
            held.require()
        assert (caught.value.code, caught.value.exit_code) == ("LEASE_LOST", 75)
    assert read_holder(tmp_path / FILE) == other


def test_a_lease_that_somebody_removed_is_made_again(tmp_path):
    with hold(tmp_path, "pretrain") as held:
        held.path.unlink()
        held.require()
        assert read_holder(held.path) == held.holder
        refused(tmp_path)


def test_what_killed_takers_left_is_removed_once_it_is_old(tmp_path, listing):
    for age_s, name in (
        (100, ".lease.json.waiting-a"),
        (100, "..lease.json.after-b.waiting-c"),
        (5, ".lease.json.after-d"),
    ):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (time.time() - age_s, time.time() - age_s))
    with hold(tmp_path, "pretrain"):
        assert listing(tmp_path) == [".lease.json.after-d", "lease.json"]


def test_a_taker_killed_while_succeeding_is_succeeded(tmp_path):
    """The lease on succeeding the dead one was itself left behind, twice over."""
    dead = [replace(Holder.here("pretrain"), pid=NOBODY, nonce=f"{n:032x}") for n in range(3)]
    leave(tmp_path, dead[0])
    turn = f".lease.json.after-{dead[0].nonce}"
    (tmp_path / turn).write_text(json.dumps(asdict(dead[1])))
    (tmp_path / f".{turn}.after-{dead[1].nonce}").write_text(json.dumps(asdict(dead[2])))
    with hold(tmp_path, "finetune") as held:
        held.require()
        assert read_holder(tmp_path / FILE) == held.holder


def test_who_was_too_late_for_a_dead_lease_leaves_the_new_one_alone(tmp_path, monkeypatch, listing):
    """It saw the dead one; before it could act, a quicker process took its place, or took it and gave it back."""
    gone, quicker = replace(Holder.here("pretrain"), pid=NOBODY), Holder.here("calibrate")
    real, path = module._succeed, tmp_path / FILE

    def late(*arguments: object) -> bool:
        monkeypatch.setattr(module, "_succeed", real)
        path.unlink()
        if is_held:
            leave(tmp_path, quicker)
        return real(*arguments)

    for is_held in (True, False):
        leave(tmp_path, gone)
        monkeypatch.setattr(module, "_succeed", late)
        if is_held:
            assert "apatite calibrate" in str(refused(tmp_path))
            assert read_holder(path) == quicker
            assert listing(tmp_path) == [FILE]
        else:
            with hold(tmp_path, "finetune") as held:
                held.require()


def test_only_one_thread_of_many(tmp_path):
    """Threads share a process number, yet not a lease."""
    won, together = [], threading.Barrier(6)

    def attempt() -> None:
        together.wait()
        try:
            with hold(tmp_path / "run", "pretrain") as held:
                won.append(held.holder.nonce)
                time.sleep(0.5)
        except BusyError:
            pass

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


RACE = """
import json, os, signal, sys, time
from dataclasses import asdict, replace
from pathlib import Path
from apatite.batch.lease import FILE, Holder, hold
from apatite.core.errors import BusyError

folder, rounds, racers, hold_s, spread_s, is_left, deaths = Path(sys.argv[1]), *map(float, sys.argv[2:])

def racer(run, number, start):
    # Each begins at its own moment within the spread.
    while time.monotonic() < start + spread_s * (number * 7919 % 97) / 97:
        pass
    try:
        with hold(run, "pretrain"):
            # Two at the same time would find the other's marker.
            try:
                os.close(os.open(run / "inside", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return 66
            if number < deaths:
                os.unlink(run / "inside")
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(hold_s)
            os.unlink(run / "inside")
        return 0
    except BusyError as error:
        return 75 if "process " in str(error) else 67

for turn in range(int(rounds)):
    run = folder / str(turn)
    run.mkdir()
    if is_left:
        gone = replace(Holder.here("pretrain"), pid=2**22 + 1)
        (run / FILE).write_text(json.dumps(asdict(gone)))
    start, pids = time.monotonic() + 0.01, []
    for number in range(int(racers)):
        pid = os.fork()
        if not pid:
            code = 99
            try:
                code = racer(run, number, start)
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print(json.dumps([codes, round(time.monotonic() - start, 3), sorted(os.listdir(run))]), flush=True)
"""


def race(folder: Path, **options: float) -> list[tuple[list[int], float, list[str]]]:
    """Exit codes, seconds and what was left, per round."""
    given = {"rounds": 30, "racers": 2, "hold_s": 0.1, "spread_s": 0.05, "is_left": 0, "deaths": 0} | options
    command = [sys.executable, "-c", RACE, str(folder), *map(str, given.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("is_left", [0, 1])
def test_of_two_at_the_same_time_one_wins(tmp_path, is_left):
    """Started within 50 ms; whoever is refused knows by whom, and soon."""
    rounds = race(tmp_path, rounds=30, is_left=is_left, hold_s=0.12)
    assert len(rounds) == 30
    for codes, elapsed_s, left in rounds:
        assert sorted(codes) == [0, 75]
        assert elapsed_s < 5
        assert left == []


@pytest.mark.parametrize(("hold_s", "deaths"), [(0.0, 0), (0.002, 0), (0.0, 4)])
def test_many_who_find_the_same_dead_lease(tmp_path, hold_s, deaths):
    """Quick holders, who give it back while others still clear; some are killed while they hold it."""
    rounds = race(tmp_path, rounds=40, racers=9, hold_s=hold_s, spread_s=0.004, is_left=1, deaths=deaths)
    assert len(rounds) == 40
    for codes, _, _ in rounds:
        assert set(codes) <= {0, 75, -signal.SIGKILL}
        assert set(codes) & {0, -signal.SIGKILL}
    assert any(codes.count(0) > 1 for codes, _, _ in rounds)
