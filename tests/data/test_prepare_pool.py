"""One bad case costs only itself, even where it kills the process that reads it."""

import importlib
import os

import pytest

from apatite.core.errors import DataError
from apatite.data.prepare_pool import run_each
from apatite.io.manifest import Case

CASES = [Case(case_id=f"c{number}", patient_id="p", image="i") for number in range(7)]


def described(results) -> list[str]:
    return [result.code if isinstance(result, DataError) else result for result in results]


SOURCE = """
import os, signal
from apatite.core.errors import DataError

def work(case):
    if case.case_id == "c2":
        raise DataError("is bad", where=case.case_id, code="CRC")
    if case.case_id == "c4" and os.getpid() != {parent}:
        os.kill(os.getpid(), signal.SIGKILL)
    return case.case_id.upper()
"""
"""A module of its own, for a spawned process cannot import a test file."""


@pytest.mark.slow
def test_bad_cases_are_named_and_the_others_are_kept(tmp_path, monkeypatch):
    (tmp_path / "deadly_work.py").write_text(SOURCE.format(parent=os.getpid()))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    task = importlib.import_module("deadly_work").work
    assert described(run_each(task, CASES, 1)) == ["C0", "C1", "CRC", "C3", "C4", "C5", "C6"]
    assert described(run_each(task, CASES, 2)) == ["C0", "C1", "CRC", "C3", "WORKER_KILLED", "C5", "C6"]
