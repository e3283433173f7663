"""Where the same bits are promised, and where they are not."""

import os
import platform
from pathlib import Path

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.engine.machine import differences, machine, refuse_inexact
from apatite.engine.precision import Precision


def test_what_rounding_depends_on():
    found = machine(Precision(threads=3), processes=2)
    assert found == {
        "cpu": found["cpu"],
        "device": "cpu",
        "torch": torch.__version__,
        "threads": 3,
        "processes": 2,
    }
    listing = Path("/proc/cpuinfo")
    if platform.machine() == "x86_64" and listing.exists():
        assert f"model name\t: {found['cpu']}\n" in listing.read_text()


def test_a_gpu_is_known_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert machine(Precision(device="cuda"), 1)["device"] == "NVIDIA H200"


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpu", "another"), ("device", "cuda"), ("torch", "1.0"), ("threads", 2), ("processes", 4)],
)
def test_every_one_of_them_counts(name, value):
    here = machine(Precision(threads=1), 1)
    assert differences(here, here) == []
    (found,) = differences(here | {name: value}, here)
    assert found == f"{name} {value!r}, here {here[name]!r}"


def test_a_state_that_does_not_say_where_it_was_made_differs():
    here = machine(Precision(threads=1), 1)
    began = {name: value for name, value in here.items() if name != "processes"}
    assert differences(began, here) == ["processes None, here 1"]


def test_fewer_cores_than_threads(monkeypatch):
    """Threads that share a core give the same sums in principle; what the libraries make of it is not known."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5}, raising=False)
    here = machine(Precision(threads=2), 1)
    assert differences(here, here) == []
    here = machine(Precision(threads=3), 1)
    assert differences(here, here) == ["3 threads, here 2 cores"]


def test_a_difference_is_refused_by_name():
    refuse_inexact([], "runs/a")
    with pytest.raises(ConfigError) as caught:
        refuse_inexact(["threads 4, here 2", "torch '2.0', here '2.1'"], "runs/a")
    assert (caught.value.code, caught.value.where, caught.value.exit_code) == ("INEXACT", "runs/a", 2)
    assert "threads 4, here 2; torch '2.0', here '2.1'" in str(caught.value)
    assert "--inexact-resume" in caught.value.fix
