"""What a worker process may do, and how it ends."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import misdeeds

from apatite.batch.attempt import Item
from apatite.batch.crew import Workers
from apatite.batch.rows import Row
from apatite.batch.worker import CaseLimits, Worker
from apatite.core.errors import ApatiteError


def answer_of(worker: Worker, limit_s: float = 20.0):
    until = time.monotonic() + limit_s
    while (answer := worker.poll()) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return answer


def ready(worker: Worker) -> Worker:
    until = time.monotonic() + 20
    while not worker.is_idle():
        worker.poll()
        assert time.monotonic() < until
        time.sleep(0.01)
    return worker


@pytest.fixture
def worker():
    one = ready(Worker(misdeeds.look_around, CaseLimits(memory_bytes=2**31)))
    yield one
    one.kill()


def test_limits_and_silence(worker, tmp_path):
    worker.give(Item(case_id="c", value={}), tmp_path / "result", 1)
    row = answer_of(worker)
    assert isinstance(row, Row)
    seen = dict(line.split("=") for line in (tmp_path / "result" / "seen.txt").read_text().splitlines())
    assert seen["address_space"] == str(2**31)
    assert seen["core"] == "0"
    assert int(seen["session"]) == int(seen["pid"]) != os.getpid()
    assert seen["is_fork"] == "False"
    assert seen["sigterm"] == str(int(signal.SIG_IGN))
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 2**31
    assert [seen["fd0"], seen["fd1"], seen["fd2"]] == [os.devnull] * 3


def test_an_idle_one_that_ends_is_seen(worker):
    os.kill(worker.events[0].fileno() and worker._process.pid, signal.SIGKILL)
    worker._process.join(10)
    assert worker.poll() is None
    assert worker.is_lost()
    assert not worker.is_idle()


def test_workers_that_cannot_start_end_the_batch():
    crew = Workers(misdeeds.Unloadable(), CaseLimits(), 2)
    try:
        until = time.monotonic() + 60
        with pytest.raises(ApatiteError) as caught:
            while time.monotonic() < until:
                crew.is_free(4)
                crew.answers(0.2)
        assert caught.value.code == "WORKER_KILLED"
        assert "--workers 0" in caught.value.fix
    finally:
        crew.close()
