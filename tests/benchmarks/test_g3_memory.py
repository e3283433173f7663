"""The search for the largest batch ends within an eighth below the truth, from any guess."""

import importlib.util
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu" / "g3_memory.py"


@pytest.fixture(scope="module")
def script():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("script_g3_memory", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


@given(truth=st.integers(2, 900), guess=st.integers(1, 1024))
def test_the_largest_batch(script, truth, guess):
    device = script.Device(name="cuda", label="made-up", deadline=time.monotonic() + 60)
    found = script.largest(guess, lambda batch: batch <= truth, device)
    assert found <= truth
    # Each step is an eighth, rounded down.
    assert found >= min(truth, script.MOST) * 7 // 8 - 1


def test_no_try_after_the_time_is_over(script):
    device = script.Device(name="cuda", label="made-up", deadline=time.monotonic() - 1)
    tried = []
    assert script.largest(50, lambda batch: tried.append(batch) or False, device) == 2
    assert tried == [50]
