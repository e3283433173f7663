"""A child's rows arrive, its failure is explained, and nothing of its group outlives it, however it ends."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from apatite.core.errors import ConfigError, StoppedError, TrainingError
from apatite.core.stop import StopRequest
from apatite.study.nnunet.process import CHILD, FAILED, MISSING, Child, ask, group_bytes, tail

ROWS = """
import json, os, subprocess, sys, time
verb, settings, pipe = sys.argv[3], json.loads(sys.argv[4]), int(sys.argv[5])
def say(**row):
    os.write(pipe, (json.dumps(row) + "\\n").encode())
"""


@pytest.fixture
def interpreter(tmp_path) -> Callable[[str], Path]:
    """An executable that is started in place of a Python and does what it is told."""

    def make(program: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\n{ROWS}{program}")
        path.chmod(0o755)
        return path

    return make


def is_alive(pid: int) -> bool:
    try:
        # A zombie that nobody waits for is as dead as one can be.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_soon_gone(pid: int) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def num_open_files() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")


def test_every_row_arrives_also_the_last_one(interpreter, tmp_path):
    program = "print('to the log')\nfor n in range(500): say(event='row', n=n, text='x' * 700, verb=verb, **settings)\n"
    child = Child(interpreter(program), "go", {"a": 1}, tmp_path / "deep" / "log", StopRequest())
    rows = list(child.rows())
    assert [row["n"] for row in rows] == list(range(500))
    assert (rows[0]["verb"], rows[0]["a"]) == ("go", 1)
    assert (tmp_path / "deep" / "log").read_text() == "to the log\n"
    assert child.wall_s > 0


def test_the_log_of_an_earlier_start_is_kept(interpreter, tmp_path):
    for text in ("first", "second"):
        list(Child(interpreter(f"print({text!r})"), "go", {}, tmp_path / "log", StopRequest()).rows())
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_a_failure_shows_the_end_of_the_log(interpreter, tmp_path):
    program = "say(event='begun')\nfor n in range(40): print('line', n)\nraise RuntimeError('no such plan')\n"
    seen = []
    with pytest.raises(TrainingError) as caught:
        seen.extend(Child(interpreter(program), "plan", {}, tmp_path / "plan.log", StopRequest()).rows())
    error = caught.value
    assert (error.code, error.where, error.exit_code) == (FAILED, str(tmp_path / "plan.log"), 1)
    assert "RuntimeError: no such plan" in error.what
    assert "'plan' ended with 1" in error.what
    assert "line 39" in error.what and "line 1\n" not in error.what


def test_a_killed_child_is_told_from_one_that_failed(interpreter, tmp_path):
    with pytest.raises(TrainingError, match="killed by signal 9"):
        list(Child(interpreter("os.kill(os.getpid(), 9)"), "train", {}, tmp_path / "log", StopRequest()).rows())


FAMILY = """
below = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
say(event='pids', own=os.getpid(), below=below.pid)
"""


@needs_proc
@pytest.mark.parametrize(
    ("ending", "error"), [("", None), ("raise SystemExit(3)", TrainingError), ("time.sleep(600)", StoppedError)]
)
def test_what_it_started_ends_with_it(interpreter, tmp_path, ending, error):
    stop = StopRequest()
    child = Child(interpreter(FAMILY + ending), "train", {}, tmp_path / "log", stop)
    rows = child.rows()
    pids = next(rows)
    assert is_alive(pids["below"])
    if error is StoppedError:
        stop.by = signal.SIGTERM
    if error is None:
        assert list(rows) == []
    else:
        with pytest.raises(error) as caught:
            list(rows)
        assert caught.value.code == ("STOPPED" if error is StoppedError else FAILED)
    assert is_soon_gone(pids["below"])
    assert is_soon_gone(pids["own"])


@needs_proc
def test_who_stops_reading_ends_it_too(interpreter, tmp_path):
    rows = Child(interpreter(FAMILY + "time.sleep(600)"), "train", {}, tmp_path / "log", StopRequest()).rows()
    pids = next(rows)
    rows.close()
    assert is_soon_gone(pids["below"])
    assert is_soon_gone(pids["own"])


ORPHAN = """
import importlib.util, threading
spec = importlib.util.spec_from_file_location("child", sys.argv[2])
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
threading.Thread(target=child._end_with_parent, daemon=True).start()
"""
PARENT = """
import json, sys
from pathlib import Path
from apatite.core.stop import StopRequest
from apatite.study.nnunet.process import Child
rows = Child(Path(sys.argv[1]), "train", {}, Path(sys.argv[2]), StopRequest()).rows()
print(json.dumps(next(rows)), flush=True)
list(rows)
"""


@needs_proc
def test_a_child_whose_parent_was_killed_ends_by_itself(interpreter, tmp_path):
    command = [
        sys.executable,
        "-c",
        PARENT,
        str(interpreter(ORPHAN + FAMILY + "time.sleep(600)")),
        str(tmp_path / "log"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        assert is_alive(pids["own"])
        parent.kill()
    assert is_soon_gone(pids["own"])
    assert is_soon_gone(pids["below"])


def test_the_real_child_says_what_is_installed(tmp_path):
    rows = list(Child(Path(sys.executable), "versions", {}, tmp_path / "log", StopRequest()).rows())
    assert rows[0]["event"] == "versions"
    assert rows[0]["python"] == sys.version.split()[0]
    assert "torch" in rows[0]


@pytest.mark.parametrize(
    "program", ["say(event='versions', python='3.11.0', torch='2.13.0')", "", "raise ImportError('too old')"]
)
def test_a_python_without_nnunet_is_refused(interpreter, program):
    python = interpreter(program)
    with pytest.raises(ConfigError) as caught:
        ask(python, StopRequest())
    assert (caught.value.code, caught.value.where, caught.value.exit_code) == (MISSING, str(python), 2)
    assert "pip install nnunetv2" in caught.value.fix


def test_no_python_at_all_is_refused(tmp_path):
    before = num_open_files()
    with pytest.raises(ConfigError) as caught:
        ask(tmp_path / "none", StopRequest())
    assert caught.value.code == MISSING
    assert num_open_files() <= before


def test_a_python_that_has_it(interpreter):
    found = ask(interpreter("say(event='versions', python='3.11.0', nnunetv2='2.8.1')"), StopRequest())
    assert found["nnunetv2"] == "2.8.1"


def test_memory_of_a_group_by_hand(tmp_path):
    """Two processes of group 77, one of which has a name that looks like more fields; one of another group."""
    for pid, name, group, pss in ((10, "python", 77, 100), (11, "a) S 1 5 (b", 77, 20), (12, "python", 5, 4000)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S 1 {group} 3 0")
        (tmp_path / str(pid) / "smaps_rollup").write_text(f"00-ff ---p\nRss: 9999 kB\nPss: {pss} kB\nPss_Dirty: 7 kB\n")
    (tmp_path / "13").mkdir()
    assert group_bytes(77, tmp_path) is None
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "smaps_rollup").write_text("")
    assert group_bytes(77, tmp_path) == 120 * 1024


def test_the_peak_is_noted(interpreter, tmp_path):
    child = Child(
        interpreter("held = b'x' * 10**8\nsay(event='a')\ntime.sleep(1.5)"),
        "train",
        {},
        tmp_path / "log",
        StopRequest(),
    )
    list(child.rows())
    if Path("/proc/self/smaps_rollup").exists():
        assert child.peak_bytes is not None and child.peak_bytes > 10**8


def test_tail_takes_the_last_lines(tmp_path):
    (tmp_path / "log").write_bytes(b"\xff" * 30_000 + b"\n" + b"".join(b"%d\n\n" % n for n in range(9)))
    assert tail(tmp_path / "log").splitlines() == ["3", "4", "5", "6", "7", "8"]


def test_the_child_stands_alone():
    """It and its neighbours run in another interpreter, so they import nothing of the package."""
    for path in CHILD.parent.glob("child*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import apatite" not in text and "from apatite" not in text, path.name
