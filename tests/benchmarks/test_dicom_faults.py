"""The script that runs the grid through several readers: a line of JSON, and a worker that outlives a tool."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faulty_series.grid import Case
from faulty_series.judge import Outcome, judge
from faulty_series.worker import OURS, Worker, outcome_from

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "dicom_faults.py"


@pytest.mark.weekly
def test_a_quick_run_ends_with_a_line_of_json(tmp_path):
    out = tmp_path / "result.json"
    command = [
        sys.executable, str(SCRIPT), "--quick", "--threads", "1", "--match", "^(none|slices/few)",
        "--tools", f"{OURS},SimpleITK", "--out", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["benchmark"] == "dicom_faults"
    assert last["facts"]["failures"] == []
    rows = {row["what"]: row for row in json.loads(out.read_text())["rows"]}
    folders = rows["silent"]["folders"]
    assert folders == 2
    assert rows["right, or rightly refused"][OURS] == folders
    assert {row[OURS] for what, row in rows.items() if what.startswith("silent")} == {0}
    assert str(tmp_path) not in out.read_text()


@pytest.mark.slow
def test_a_worker_that_dies_is_started_anew(tmp_path):
    expected = Case(family="none", kind="nothing", severity=0, base="oblique").make(tmp_path)
    with Worker(OURS) as worker:
        assert judge(worker.read(tmp_path), expected) == "right"
        assert worker._process is not None
        worker._process.kill()
        worker._process.wait()
        assert worker.read(tmp_path).crashed
        assert judge(worker.read(tmp_path), expected) == "right"


def test_an_outcome_survives_its_journey():
    values = {"volumes": [], "code": "NO_IPP", "flags": ["TILT"], "said": True, "crashed": False, "note": "x"}
    assert outcome_from(values) == Outcome(code="NO_IPP", flags=frozenset({"TILT"}), said=True, note="x")
