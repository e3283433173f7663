"""Threads and remembered diagrams: in order, as themselves, in every process, and within a bound."""

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from apatite.core.errors import ConfigError, DataError
from apatite.losses import diagram_jobs
from apatite.losses.diagram_jobs import DiagramJobs, volumes_of
from apatite.topology.diagrams import DiagramConfig


@pytest.fixture
def made(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the volumes whose diagrams were made, in turn."""
    shapes = []
    real = diagram_jobs.diagrams
    monkeypatch.setattr(
        diagram_jobs, "diagrams", lambda volume, config: shapes.append(volume.shape) or real(volume, config)
    )
    return shapes


def volume(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((3, 4, 5)).astype(np.float32)


def test_volumes_are_named_and_their_own():
    image = torch.arange(2 * 3 * 2 * 1 * 4, dtype=torch.float32).reshape(2, 3, 2, 1, 4).requires_grad_()
    volumes = volumes_of(image)
    assert list(volumes)[:4] == [
        "sample 0, channel 0",
        "sample 0, channel 1",
        "sample 0, channel 2",
        "sample 1, channel 0",
    ]
    assert volumes["sample 1, channel 2"].tolist() == image[1, 2].tolist()
    with torch.no_grad():
        image += 1
    assert volumes["sample 0, channel 0"][0, 0, 0] == 0


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_jobs(workers):
    jobs = DiagramJobs(DiagramConfig(), workers)
    gates = [threading.Event() for _ in range(3)]

    def job(number: int) -> int:
        # With enough threads, the last one is done first.
        if workers == 3:
            if number < 2:
                assert gates[number + 1].wait(10)
            gates[number].set()
        return number

    wait = jobs.submit({str(number): (lambda number=number: job(number)) for number in range(3)})
    assert wait() == wait() == [0, 1, 2]


def test_more_jobs_later_get_more_threads(monkeypatch):
    monkeypatch.setattr(diagram_jobs, "num_cores", lambda: 2)
    jobs, gate = DiagramJobs(DiagramConfig()), threading.Barrier(2)
    assert jobs.submit({"one": lambda: 7})() == [7]
    # Two that wait for each other.
    assert sorted(jobs.submit({"one": lambda: gate.wait(10), "two": lambda: gate.wait(10)})()) == [0, 1]


def test_begins_at_once_and_does_not_wait():
    jobs, gate = DiagramJobs(DiagramConfig()), threading.Event()
    wait = jobs.submit({"one": lambda: gate.wait(10)})
    gate.set()
    assert wait() == [True]


def test_an_error_comes_out_as_itself_with_the_name_of_its_volume():
    def refuse():
        raise DataError("too dark", where="voxel 3", code="NONFINITE")

    def fail():
        raise ZeroDivisionError("no")

    jobs = DiagramJobs(DiagramConfig(), 2)
    with pytest.raises(DataError, match="too dark") as caught:
        jobs.submit({"sample 0": lambda: 1, "sample 1": refuse, "sample 2": fail})()
    assert caught.value.where == "sample 1: voxel 3"
    assert caught.value.code == "NONFINITE"
    with pytest.raises(ZeroDivisionError) as other:
        jobs.submit({"sample 2": fail})()
    assert other.value.__notes__ == ["sample 2"]
    assert jobs.submit({"sample 0": lambda: 1})() == [1]


def test_what_waits_for_a_thread_is_dropped_after_an_error():
    done, jobs = [], DiagramJobs(DiagramConfig(), 1)
    gate = threading.Event()

    def fail():
        gate.wait(10)
        raise ZeroDivisionError

    wait = jobs.submit(
        {"a": fail, **{str(n): (lambda n=n: done.append(n) or threading.Event().wait(0.02)) for n in range(50)}}
    )
    gate.set()
    with pytest.raises(ZeroDivisionError):
        wait()
    assert jobs.submit({"last": lambda: len(done)})()[0] < 50


def test_the_same_content_is_worked_out_once(made):
    jobs = DiagramJobs(DiagramConfig())
    first = jobs.remembered(volume(0))
    assert jobs.remembered(volume(0).copy()) is first
    assert jobs.remembered(np.asfortranarray(volume(0))) is first
    assert len(made) == 1


def test_two_threads_with_one_content_work_it_out_once(monkeypatch):
    made, real = [], diagram_jobs.diagrams

    def slow(volume, config):
        made.append(1)
        threading.Event().wait(0.1)
        return real(volume, config)

    monkeypatch.setattr(diagram_jobs, "diagrams", slow)
    jobs, gate = DiagramJobs(DiagramConfig(), 2), threading.Barrier(2)
    first, second = jobs.submit({name: lambda: gate.wait(10) is None or jobs.remembered(volume(0)) for name in "ab"})()
    assert first is second
    assert len(made) == 1


def test_two_threads_with_one_wrong_content_both_hear_of_it():
    wrong = np.full((2, 3, 4), np.nan)
    jobs, gate = DiagramJobs(DiagramConfig(), 2), threading.Barrier(2)
    heard = []

    def job(name: str) -> None:
        gate.wait(10)
        with pytest.raises(DataError, match="not finite") as caught:
            jobs.remembered(wrong)
        heard.append(caught.value)

    jobs.submit({name: (lambda name=name: job(name)) for name in "ab"})()
    assert len({id(error) for error in heard}) == 2


def test_another_shape_format_or_value_is_another_volume(made):
    jobs = DiagramJobs(DiagramConfig())
    one = np.zeros((2, 3, 4), np.float32)
    one[0, 0, 0] = 1
    other = one.copy()
    other[0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    for each in (one, one.reshape(3, 2, 4), one.astype(np.float64), other):
        jobs.remembered(each)
    assert len(made) == 4


def test_the_one_not_asked_for_longest_gives_way(made, monkeypatch):
    sizes = [1 + sum(len(d.births) for d in DiagramJobs(DiagramConfig()).remembered(volume(n))) for n in range(3)]
    made.clear()
    monkeypatch.setattr(diagram_jobs, "REMEMBERED_POINTS", sum(sizes) - 1)
    jobs = DiagramJobs(DiagramConfig())
    for number in (0, 1, 0, 2, 0):
        jobs.remembered(volume(number))
    assert len(made) == 3
    jobs.remembered(volume(1))
    assert len(made) == 4


def test_nothing_is_kept_where_nothing_may_be(made, monkeypatch):
    monkeypatch.setattr(diagram_jobs, "REMEMBERED_POINTS", 0)
    jobs = DiagramJobs(DiagramConfig())
    jobs.remembered(volume(0))
    jobs.remembered(volume(0))
    assert len(made) == 2


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda jobs: pickle.loads(pickle.dumps(jobs))])  # noqa: S301 - its own bytes
def test_a_copy_works_and_starts_afresh(duplicate, made):
    jobs = DiagramJobs(DiagramConfig(level="super"), 2)
    assert jobs.submit({"one": lambda: 1})() == [1]
    jobs.remembered(volume(0))
    other = duplicate(jobs)
    assert (other.config, other.workers) == (jobs.config, jobs.workers)
    assert other.submit({"one": lambda: 2})() == [2]
    other.remembered(volume(0))
    assert len(made) == 2


def test_fewer_than_no_workers_are_refused():
    with pytest.raises(ConfigError, match="-1 workers"):
        DiagramJobs(DiagramConfig(), -1)


SCRIPT = """
import os, time, sys
import numpy as np
from apatite.losses.diagram_jobs import DiagramJobs
from apatite.topology.diagrams import DiagramConfig
jobs = DiagramJobs(DiagramConfig(), 2)
volume = np.random.default_rng(0).random((3, 4, 5))
def work():
    return len(jobs.remembered(volume)[0].births)
points = jobs.submit({"a": work, "b": work})()
jobs._here.memory.lock.acquire()  # as if another thread held it at that moment
child = os.fork()
if child == 0:
    os._exit(0 if jobs.submit({"a": work, "b": work})() == points else 9)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
jobs.submit({"slow": lambda: time.sleep(0.3)})
print("end", status)
"""


def test_a_fork_works_and_nobody_has_to_wait_for_the_process_to_end():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end 0\n", "")
