"""Real runs of the command, killed, stopped or starved of disk at any moment, end bit-equal to an undisturbed one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from apatite.core.config import write_yaml
from apatite.core.rng import generator
from apatite.engine.checkpoint import load_state
from apatite.engine.journal import Journal
from apatite.engine.precision import Precision
from apatite.io.run_folder import RunFolder
from apatite.io.tensor_header import read_header
from apatite.pretrain.config import PretrainConfig

sys.path.insert(0, str(Path(__file__).parent))
from victim import Victim, Zygote

STEPS = 30
FRESH = "from apatite.cli.main import main; main()"
WORKERS, ON_DEVICE = "feed.workers=2", "feed.on_device=true"


@dataclass(frozen=True)
class Course:
    """One verb, its run, and the same run undisturbed."""

    verb: tuple[str | Path, ...]
    zygote: Zygote
    whole: Path

    def command(self, out: Path, *settings: str) -> list[str | Path]:
        return [*self.verb, "-o", out, "--resume", *settings]

    def start(self, out: Path, *settings: str, **faults) -> Victim:
        return self.zygote.start(*self.command(out, *settings), **faults)

    def finish(self, out: Path, *settings: str) -> None:
        """Let it end undisturbed; then it must be the whole run, and nothing else may lie in its folder."""
        victim = self.start(out, *settings)
        assert victim.wait() == 0, victim.said.read_text()
        one, other = RunFolder(path=out), RunFolder(path=self.whole)
        assert Journal(one.metrics).rows() == Journal(other.metrics).rows()
        assert step_of(out) == STEPS
        require_equal_states(one.last, other.last)
        if other.best.exists():
            require_equal_states(one.best, other.best)
        own, same = contents(out), contents(self.whole)
        assert own.keys() - same.keys() <= {"resumes.jsonl"}
        assert own.keys() >= same.keys()
        for name in same.keys() - {"config.yaml", "manifest.json", "checkpoints/last", "checkpoints/best"}:
            assert own[name] == same[name], name


def require_equal_states(one: Path, other: Path) -> None:
    (tensors, values), (other_tensors, other_values) = load_state(one), load_state(other)
    assert values == other_values
    assert tensors.keys() == other_tensors.keys()
    assert all(torch.equal(tensors[name], other_tensors[name]) for name in tensors)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def zygote(tmp_path_factory) -> Iterator[Zygote]:
    one = Zygote(tmp_path_factory.mktemp("said"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def pretraining(zygote, head_study, tmp_path_factory) -> Course:
    """Ten cases in batches of four; a look at the health panel now and then."""
    folder = tmp_path_factory.mktemp("pretraining")
    config = PretrainConfig(
        model="vitiac-xs",
        patch=(4, 8, 8),
        epochs=12,
        batch=4,
        check_epochs=4,
        save_every_s=0.0,
        precision=Precision(threads=1),
    )
    write_yaml(folder / "config.yaml", config)
    return whole(zygote, folder, "pretrain", "-d", head_study.prepared, "--config", folder / "config.yaml")


@pytest.fixture(scope="module")
def finetuning(zygote, head_study, make_encoder, tiny, tmp_path_factory) -> Course:
    """From an encoder, with stochastic depth; a look at the development split now and then."""
    folder = tmp_path_factory.mktemp("finetuning")
    write_yaml(folder / "config.yaml", replace(tiny, steps=STEPS, check_every=7, save_every_s=0.0))
    where = ("-d", head_study.prepared, "--config", folder / "config.yaml", "--init-from", make_encoder())
    return whole(zygote, folder, "finetune", *where)


def whole(zygote: Zygote, folder: Path, *verb: str | Path) -> Course:
    course = Course(verb=verb, zygote=zygote, whole=folder / "whole")
    victim = course.start(course.whole)
    assert victim.wait() == 0, victim.said.read_text()
    return course


@pytest.fixture(params=["pretraining", "finetuning"])
def course(request) -> Course:
    return request.getfixturevalue(request.param)


@pytest.fixture
def draw(request) -> np.random.Generator:
    return generator(2, "kill", request.node.name)


def step_of(out: Path) -> int:
    """The last committed step."""
    last = RunFolder(path=out).last
    if not last.exists():
        return 0
    return load_state(last)[1]["step"]


def mark_of(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def await_commit(out: Path, before: tuple[int, int], limit_s: float = 30.0) -> None:
    """Until `last` is another file than before."""
    wait_until(lambda: mark_of(RunFolder(path=out).last) != before, limit_s)


def wait_until(is_so: Callable[[], bool], limit_s: float = 30.0) -> None:
    until = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.001)


def start_fresh(course: Course, out: Path) -> subprocess.Popen:
    """As a user would: a new interpreter."""
    return subprocess.Popen(
        [sys.executable, "-c", FRESH, *map(str, course.command(out))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_often(course: Course, out: Path, draw: np.random.Generator, kills: int, *settings: str) -> list[int]:
    """Kill at start-up once, then at random moments after at least one more step. Returns the steps committed then."""
    at, victims = [], []
    for number in range(kills):
        before = mark_of(RunFolder(path=out).last)
        victim = course.start(out, *settings)
        victims.append(victim.pid)
        if number:
            await_commit(out, before)
        time.sleep(draw.uniform(0, 0.06 if number else 0.4))
        assert victim.kill() == -signal.SIGKILL
        at.append(step_of(out))
    assert at == sorted(at)
    wait_until(lambda: not any(map(processes_of, victims)), 10)
    return at


def processes_of(session: int) -> list[int]:
    """All processes of a session that still live: a victim and its data workers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def test_killed_at_random_moments(course, draw, tmp_path):
    out = tmp_path / "run"
    at = kill_often(course, out, draw, 11)
    before = mark_of(RunFolder(path=out).last)
    assert at[-1] < STEPS, at
    fresh = start_fresh(course, out)
    await_commit(out, before)
    fresh.kill()
    assert fresh.wait() == -signal.SIGKILL
    at.append(step_of(out))
    assert sum(0 < step < STEPS for step in at) >= 8, at
    course.finish(out)
    assert len(RunFolder(path=out).resumes.read_text().splitlines()) >= 9


@pytest.mark.parametrize("feed", [ON_DEVICE, WORKERS])
def test_killed_however_batches_are_made(course, feed, draw, tmp_path):
    """The bits are those of batches made in place by the process itself."""
    at = kill_often(course, tmp_path / "run", draw, 3, feed)
    assert sum(0 < step < STEPS for step in at) == 2
    course.finish(tmp_path / "run", feed)


def test_killed_inside_a_commit(course, tmp_path):
    out, step = tmp_path / "run", 0
    for stage, gained in (("write", 1), ("fsync", 1), ("rename", 1), ("folder", 2)):
        victim = course.start(out, die_in_commit={"stage": stage, "of": "last", "turn": 2})
        assert victim.wait() == -signal.SIGKILL
        step += gained
        assert step_of(out) == step
    victim = course.start(out, die_in_package={})
    assert victim.wait() == -signal.SIGKILL
    assert step_of(out) == STEPS
    assert not RunFolder(path=out).model.exists()
    course.finish(out)


@pytest.mark.parametrize("stage", ["rename", "folder"])
def test_killed_while_the_best_state_is_committed(finetuning, stage, tmp_path):
    """It is written before the last state; so the check is done again, and must come out the same."""
    victim = finetuning.start(tmp_path / "run", die_in_commit={"stage": stage, "of": "best", "turn": 1})
    assert victim.wait() == -signal.SIGKILL
    assert step_of(tmp_path / "run") == 6
    assert RunFolder(path=tmp_path / "run").best.exists() == (stage == "folder")
    finetuning.finish(tmp_path / "run")


@pytest.mark.parametrize("feed", ["feed.workers=0", WORKERS])
def test_asked_to_stop_at_random_moments(finetuning, feed, draw, tmp_path):
    """A batch system signals the whole process group, data workers as well."""
    out = tmp_path / "run"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
        before = mark_of(RunFolder(path=out).last)
        victim = finetuning.start(out, feed)
        await_commit(out, before)
        time.sleep(draw.uniform(0, 0.04))
        os.killpg(victim.pid, number)
        assert victim.wait() == 75
        said = victim.said.read_text()
        found = re.search(rf"stopped by {number.name} after step (\d+) of {STEPS}; its state is committed", said)
        assert found, said
        assert int(found[1]) == step_of(out)
        assert "--resume" in said
        assert "Traceback" not in said
        assert not (out / "lease.json").exists()
        wait_until(lambda pid=victim.pid: not processes_of(pid), 10)
    finetuning.finish(out, feed)


def test_a_second_interrupt_ends_at_once(finetuning, tmp_path):
    victim = finetuning.start(tmp_path / "run", slow={"seconds": 20.0})
    wait_until(lambda: victim.says("slow"))
    os.kill(victim.pid, signal.SIGINT)
    time.sleep(0.2)
    began = time.monotonic()
    os.kill(victim.pid, signal.SIGINT)
    assert victim.wait() == 130
    assert time.monotonic() - began < 5
    assert step_of(tmp_path / "run") == 0
    assert not (tmp_path / "run" / "lease.json").exists()
    finetuning.finish(tmp_path / "run")


def test_a_disk_that_is_full_in_the_middle(finetuning, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root and leave to mount")
    try:
        victim = finetuning.start(disk / "run")
        await_commit(disk / "run", (0, 0))
        with (disk / "filler").open("wb") as filler:
            space = os.statvfs(disk)
            os.posix_fallocate(filler.fileno(), 0, max(space.f_bavail * space.f_bsize - 2**20, 1))
        assert victim.wait() == 75
        assert "NO_SPACE" in victim.said.read_text()
        step = step_of(disk / "run")
        assert 0 < step < STEPS
        assert finetuning.start(disk / "run").wait() == 75
        assert step_of(disk / "run") == step
        (disk / "filler").unlink()
        finetuning.finish(disk / "run")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_checkpoint_that_may_not_be_as_large(finetuning, tmp_path):
    """A limit on file sizes fails in the middle of the write, as a quota does."""
    out = tmp_path / "run"
    victim = finetuning.start(out)
    await_commit(out, (0, 0))
    victim.kill()
    step, size = step_of(out), RunFolder(path=out).last.stat().st_size
    victim = finetuning.start(out, limit_file_size={"num_bytes": size // 2})
    assert victim.wait() == 75
    said = victim.said.read_text()
    assert "File too large" in said
    assert "IO_ERROR" in said
    assert step_of(out) == step
    assert read_header(RunFolder(path=out).last)
    finetuning.finish(out)


def test_two_at_the_same_time(finetuning, draw, tmp_path):
    for number in range(3):
        out = tmp_path / f"run-{number}"
        pair = [finetuning.start(out, slow={"seconds": 0.2})]
        time.sleep(draw.uniform(0, 0.05))
        pair.append(finetuning.start(out, slow={"seconds": 0.2}))
        began = time.monotonic()
        wait_until(lambda pair=pair: any(victim.says("LEASE_HELD") for victim in pair), 5)
        refused, holder = sorted(pair, key=lambda victim: not victim.says("LEASE_HELD"))
        assert refused.wait() == 75
        assert time.monotonic() - began < 5
        said = refused.said.read_text()
        assert f"is held by `apatite finetune`, process {holder.pid} on " in said
        await_commit(out, (0, 0))
        holder.kill()
    # At once, on the same machine: nobody needs to wait for what a killed process held.
    assert (out / "lease.json").exists()
    finetuning.finish(out)
