"""Batches made by other processes: the same bits, the same errors, and no process left behind."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from apatite.core.errors import ConfigError, DataError, TrainingError
from apatite.data.ahead import Ahead
from apatite.data.augment import AugmentConfig
from apatite.data.augmented import Augmented
from apatite.data.batches import Batch, Batches, VolumeSource

EDGES = (4, 6, 5)


@pytest.fixture(autouse=True)
def one_thread():
    """As workers have: sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def source() -> VolumeSource:
    draw = np.random.default_rng(4)
    shapes = [(7, 9, 8), (4, 10, 6), (9, 6, 11)]
    images = [draw.integers(-1000, 1500, shape).astype(np.int16) for shape in shapes]
    labels = [(image > 900).astype(np.uint8) for image in images]
    spacings_mm = [(1.0, 1.5, 2.0), (0.5, 1.0, 3.0), (2.0, 1.0, 0.5)]
    return VolumeSource(images, labels, ["a", "b", "c"], np.ones((3, 1), bool), EDGES, spacings_mm=spacings_mm)


@pytest.fixture
def batches(source) -> Augmented:
    config = AugmentConfig(spacing_mm=(2.0, 1.0, 1.5))
    return Augmented(Batches(source, 2, 7, labelled=True), config, 7)


def require_equal(one: Batch, other: Batch) -> None:
    assert one.case_ids == other.case_ids
    assert one.first_sample == other.first_sample
    for name in ("images_hu", "targets", "is_annotated"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.places is not None
    assert other.places is not None
    assert torch.equal(one.places.points, other.places.points)
    assert torch.equal(one.places.extent_mm, other.places.extent_mm)


def test_the_same_bits_as_made_in_place_whatever_the_number_of_workers(batches):
    for workers in (1, 2):
        ahead = Ahead(batches, workers, 9)
        for step in (*range(5), 7, 8, 0):  # on, ahead, and back
            require_equal(ahead(step), batches(step))
        ahead.close()


def test_the_generator_of_the_models_draws_is_left_alone(batches):
    """Or the first step after a start would draw otherwise than the same step in the middle of a run."""
    ahead = Ahead(batches, 1, 3)
    torch.manual_seed(5)
    ahead(0)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    ahead.close()


def test_no_process_is_left_behind(batches):
    ahead = Ahead(batches, 2, 50)
    ahead(0)
    assert len(multiprocessing.active_children()) == 2
    ahead.close()
    assert multiprocessing.active_children() == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_workers_outlive_the_signals_that_a_batch_system_sends_to_all(batches):
    ahead = Ahead(batches, 2, 50)
    ahead(0)
    for worker in multiprocessing.active_children():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(worker.pid, number)
    for step in range(1, 12):
        require_equal(ahead(step), batches(step))
    assert len(multiprocessing.active_children()) == 2
    ahead.close()


class Bad(VolumeSource):
    """One case of which no crop can be made."""

    error: Exception = ValueError("a torn page")

    def crop(self, case, draw, *, labelled):
        if self.case_ids[case] == "b":
            raise self.error
        return super().crop(case, draw, labelled=labelled)


def caught_from(make, first: int = 0, last: int = 3) -> Exception:
    with pytest.raises(Exception) as caught:
        for step in range(first, last):
            make(step)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a torn page"),
        DataError("has no voxels", where="b", fix="leave it out", code="NO_VOXELS"),
    ],
)
def test_an_error_in_a_worker_is_told_as_if_it_had_happened_here(source, error):
    source.__class__ = Bad
    source.error = error
    batches = Batches(source, 3, 7, labelled=True)
    ahead = Ahead(batches, 2, 3)
    here, there = caught_from(batches), caught_from(ahead)
    assert type(here) is type(there) is DataError
    assert str(here) == str(there)
    assert there.where == "b"
    assert here.to_dict() == there.to_dict()
    assert "\n" not in str(there)
    assert "in crop" in "".join(there.__notes__)  # with --debug, where in the worker
    assert multiprocessing.active_children() == []


def test_any_other_error_names_its_step():
    def draw(step: int) -> Batch:
        if step == 2:
            raise ZeroDivisionError("no spacing")
        return Batch(case_ids=("a",), images_hu=torch.zeros(1, 1, 2, 3, 4))

    found = caught_from(Ahead(draw, 1, 3))
    assert isinstance(found, TrainingError)
    assert "step 2: no batch could be made (ZeroDivisionError: no spacing)" in str(found)


def test_a_worker_that_is_killed_is_found_when_its_batch_is_asked_for(batches):
    before = signal.getsignal(signal.SIGCHLD)

    def slow(step: int) -> Batch:
        time.sleep(0.3)
        return batches(step)

    ahead = Ahead(slow, 1, 50)
    ahead(0)
    assert signal.getsignal(signal.SIGCHLD) == before
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    found = caught_from(ahead, 1, 10)
    assert isinstance(found, TrainingError)
    assert found.code == "WORKER_KILLED"
    assert "feed.workers" in found.fix
    assert multiprocessing.active_children() == []


def test_no_worker_is_no_way_to_work_ahead(batches):
    with pytest.raises(ConfigError, match=r"feed\.workers"):
        Ahead(batches, 0, 3)
