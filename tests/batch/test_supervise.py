"""A batch with bad cases gives one row each, whoever dies and however often it is started again."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from misdeeds import CANARY, work

from apatite.batch.attempt import Item
from apatite.batch.lease import hold
from apatite.batch.rows import Row
from apatite.batch.supervise import found_rows, supervise
from apatite.batch.worker import CaseLimits
from apatite.core.errors import ConfigError, DataError, StoppedError, StorageError

LIMITS = CaseLimits(wall_s=2.0, memory_bytes=2**31)


def items_of(deeds: dict[int, str], count: int, **extra) -> list[Item]:
    cases = [{"number": number, "deed": deeds.get(number, "")} | extra for number in range(count)]
    return [Item(case_id=f"c{case['number']:03d}", value=case) for case in cases]


def results(folder: Path) -> dict[str, bytes]:
    """What cases wrote; rows are left out, for they hold times."""
    found = (folder / "cases").rglob("*")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.is_file() and p.name != "done.json"}


def codes(rows: tuple[Row, ...]) -> dict[str, str]:
    return {row.case_id: row.code for row in rows if not row.is_done}


def require_clean(folder: Path, items: list[Item]) -> None:
    """Results, rows, and nothing else."""
    assert {p.name for p in folder.iterdir()} == {"cases", "owners", "rows.csv", "rows.jsonl"}
    assert list((folder / "owners").iterdir()) == []
    assert sorted(p.name for p in (folder / "cases").iterdir()) == sorted(item.name for item in items)
    assert {p.name for case in (folder / "cases").iterdir() for p in case.iterdir()} == {"result"}


def test_rows_in_the_order_of_the_items_whatever_became_of_them(tmp_path):
    items = items_of({1: "bad", 3: "error", 4: "panic", 5: "eat_nothing_in_place"}, 5)
    rows = supervise(work, items, tmp_path / "w", workers=0)
    assert [row.case_id for row in rows] == [item.case_id for item in items]
    assert [row.verdict for row in rows] == ["done", "failed", "done", "failed", "failed"]
    assert rows[1] == Row(
        case_id="c001",
        verdict="failed",
        code="NONFINITE",
        what="holds values that are not finite",
        where="case 1",
        fix="f",
        elapsed_s=rows[1].elapsed_s,
    )
    assert [row.code for row in rows] == ["", "NONFINITE", "", "INTERNAL", "INTERNAL"]
    assert "RuntimeError" in rows[3].what
    assert "Panic" in rows[4].what
    assert results(tmp_path / "w") == {
        "cases/c000/result/deep/number.txt": b"0",
        "cases/c002/result/deep/number.txt": b"4",
    }
    require_clean(tmp_path / "w", items)


def test_no_text_of_a_third_party_is_kept(tmp_path):
    items = items_of({1: "error", 2: "panic"}, 3)
    supervise(work, items, tmp_path / "w", workers=0)
    assert not any(CANARY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_a_traceback_is_kept_where_that_was_asked_for(tmp_path):
    supervise(work, items_of({1: "error"}, 3), tmp_path / "w", CaseLimits(debug_folder=tmp_path / "debug"), 0)
    (path,) = (tmp_path / "debug").iterdir()
    assert path.name == "c001.txt"
    assert CANARY in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_tables_of_rows(tmp_path):
    items = items_of({1: "bad"}, 4)
    rows = supervise(work, items, tmp_path, workers=0)
    table = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [row["case_id"] for row in table] == ["c000", "c001", "c002", "c003"]
    assert (table[1]["verdict"], table[1]["code"]) == ("failed", "NONFINITE")
    assert table[3]["flags"] == "GAP TILT"
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [Row(**line | {"flags": tuple(line["flags"])}) for line in lines] == list(rows)
    assert found_rows(items, tmp_path) == rows


def test_what_is_done_is_not_done_again(tmp_path):
    log = tmp_path / "log"
    items = items_of({2: "bad"}, 6, log=str(log))
    first = supervise(work, items[:4], tmp_path / "w", workers=0)
    assert found_rows(items, tmp_path / "w") == first
    second = supervise(work, items, tmp_path / "w", workers=0)
    assert second[:4] == first
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["0", "1", "2", "3", "4", "5"]


def test_a_damaged_result_is_done_again(tmp_path):
    items = items_of({}, 3)
    supervise(work, items, tmp_path, workers=0)
    whole = results(tmp_path)
    (tmp_path / "cases/c000/result/deep/number.txt").write_text("7")
    (tmp_path / "cases/c001/result/deep/number.txt").unlink()
    (tmp_path / "cases/c002/result/done.json").write_text("{")
    assert found_rows(items, tmp_path) == ()
    assert all(row.is_done for row in supervise(work, items, tmp_path, workers=0))
    assert results(tmp_path) == whole
    require_clean(tmp_path, items)


def test_another_version_is_another_case(tmp_path):
    supervise(work, [Item(case_id="c", value={"number": 3}, version="one")], tmp_path, workers=0)
    (row,) = supervise(work, [Item(case_id="c", value={"number": 5}, version="two")], tmp_path, workers=0)
    assert row.case_id == "c"
    assert set(results(tmp_path).values()) == {b"9", b"25"}


def test_a_case_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="twice"):
        supervise(work, items_of({}, 2) * 2, tmp_path, workers=0)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="-1 workers"):
        supervise(work, items_of({}, 1), tmp_path, workers=-1)
    for limits in ({"wall_s": 0.0}, {"memory_bytes": -1}):
        with pytest.raises(ConfigError):
            CaseLimits(**limits)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_the_batch_and_the_same_call_goes_on(tmp_path, workers):
    mark = tmp_path / "room"
    items = items_of({3: "full_disk"}, 6, mark=str(mark))
    with pytest.raises(StorageError) as caught:
        supervise(work, items, tmp_path / "w", workers=workers)
    assert caught.value.code == "NO_SPACE"
    assert len(found_rows(items, tmp_path / "w")) == 3
    mark.touch()
    assert all(row.is_done for row in supervise(work, items, tmp_path / "w", workers=workers))
    require_clean(tmp_path / "w", items)


def test_a_signal_stops_between_two_cases(tmp_path):
    items = items_of({}, 6)

    def ask_to_stop(rows, stage, total=None):
        for number, row in enumerate(rows):
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield row

    with pytest.raises(StoppedError) as caught:
        supervise(work, items, tmp_path / "w", workers=0, watch=ask_to_stop)
    assert (caught.value.code, caught.value.exit_code) == ("STOPPED", 75)
    assert "after 3 of 6" in caught.value.what
    assert len(found_rows(items, tmp_path / "w")) == 3
    assert all(row.is_done for row in supervise(work, items, tmp_path / "w", workers=0))
    require_clean(tmp_path / "w", items)


def test_bad_cases_of_every_kind_among_many(tmp_path):
    """Errors, deaths, a hang and too much memory: named exactly, and everything else is done."""
    deeds = {3: "bad", 20: "error", 41: "kill", 62: "hang", 83: "eat", 90: "panic", 91: "speak"}
    items = items_of(deeds, 100)
    plain = supervise(work, items_of({}, 100), tmp_path / "plain", workers=0)
    rows = supervise(work, items, tmp_path / "w", LIMITS, workers=2)
    assert codes(rows) == {
        "c003": "NONFINITE",
        "c020": "INTERNAL",
        "c041": "WORKER_KILLED",
        "c062": "DEADLINE",
        "c083": "OOM",
        "c090": "INTERNAL",
    }
    assert {row.case_id: row.attempts for row in rows if row.attempts > 1} == {"c041": 2, "c062": 2, "c083": 2}
    assert all(row.fix for row in rows if not row.is_done)
    good = {name: content for name, content in results(tmp_path / "plain").items() if name[6:10] not in codes(rows)}
    good.pop("cases/c091/result/deep/number.txt")
    found = results(tmp_path / "w")
    assert (tmp_path / "w/cases/c091/result/begun.txt").exists()
    assert {name: content for name, content in found.items() if name[6:10] != "c091"} == good
    assert [row.flags for row in rows if row.is_done] == [
        row.flags for row, own in zip(plain, rows, strict=True) if own.is_done
    ]
    require_clean(tmp_path / "w", items)
    assert not processes_with("grandchild")


def test_a_case_that_dies_once_is_done_at_the_second_attempt(tmp_path):
    items = items_of({1: "once"}, 4, mark=str(tmp_path / "mark"))
    rows = supervise(work, items, tmp_path / "w", LIMITS, workers=2)
    assert [(row.verdict, row.attempts) for row in rows] == [("done", 1), ("done", 2), ("done", 1), ("done", 1)]


def test_the_same_bytes_with_any_number_of_workers(tmp_path):
    deeds = {2: "bad", 5: "kill"}
    one, two, none = (
        supervise(work, items_of(deeds if n else {2: "bad", 5: "error"}, 12), tmp_path / f"{n}", LIMITS, n)
        for n in (1, 2, 0)
    )
    assert results(tmp_path / "1") == results(tmp_path / "2") == results(tmp_path / "0")
    assert codes(one) == codes(two) == {"c002": "NONFINITE", "c005": "WORKER_KILLED"}
    assert [row.case_id for row in none] == [row.case_id for row in one] == [row.case_id for row in two]


PROGRAM = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from apatite.batch.attempt import Item
from apatite.batch.supervise import supervise
from apatite.batch.worker import CaseLimits
from misdeeds import work

if __name__ == "__main__":
    cases = [dict(number=n, deed="slow", seconds={seconds}, log={log!r}) for n in range({count})]
    items = [Item(case_id=f"c{{case['number']:03d}}", value=case) for case in cases]
    supervise(work, items, Path({folder!r}), CaseLimits(memory_bytes=2**31), {workers})
"""


def start(tmp_path: Path, folder: Path, count: int = 40, workers: int = 2, seconds: float = 0.05) -> subprocess.Popen:
    """A supervisor in a process of its own."""
    program = tmp_path / f"program-{workers}.py"
    text = PROGRAM.format(
        path=[str(Path(__file__).parent)],
        log=str(tmp_path / "log"),
        count=count,
        folder=str(folder),
        workers=workers,
        seconds=seconds,
    )
    program.write_text(text)
    return subprocess.Popen([sys.executable, program])


def processes_with(text: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in words:
            found.append(int(path.parent.name))
    return found


def workers_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            is_worker = b"spawn_main" in (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and is_worker:
            found.append(int(path.parent.name))
    return found


def wait_until(is_so, limit_s: float = 30.0) -> None:
    until = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def num_settled(folder: Path) -> int:
    return len(list(folder.glob("cases/*/result")))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def clean(tmp_path) -> dict[str, bytes]:
    items = [
        Item(case_id=f"c{n:03d}", value={"number": n, "deed": "slow", "seconds": 0.0, "log": str(tmp_path / "plain")})
        for n in range(40)
    ]
    supervise(work, items, tmp_path / "clean", workers=0)
    return results(tmp_path / "clean")


def test_a_supervisor_that_is_killed_is_started_again(tmp_path, clean):
    folder = tmp_path / "w"
    for settled in (0, 9, 20):
        victim = start(tmp_path, folder)
        wait_until(lambda least=settled: num_settled(folder) > least)
        workers = workers_of(victim.pid)
        assert workers
        victim.kill()
        victim.wait()
        wait_until(lambda pids=workers: not any(map(lives, pids)), 5)
    assert num_settled(folder) < 40
    assert start(tmp_path, folder).wait() == 0
    assert results(folder) == clean
    require_clean(folder, items_of({}, 40))
    counts = begun(tmp_path)
    assert set(counts) == set(range(40))
    assert sum(counts.values()) - 40 <= 6


def test_a_worker_does_not_outlive_its_supervisor(tmp_path):
    """Not even in the middle of a long case."""
    victim = start(tmp_path, tmp_path / "w", count=1, workers=1, seconds=60.0)
    wait_until((tmp_path / "log").exists)
    (worker,) = workers_of(victim.pid)
    victim.kill()
    victim.wait()
    wait_until(lambda: not lives(worker), 5)


def begun(tmp_path: Path) -> dict[int, int]:
    """How often each case was begun."""
    numbers = [int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()]
    return {number: numbers.count(number) for number in numbers}


def test_a_worker_that_is_killed_from_outside_costs_nothing(tmp_path, clean):
    folder = tmp_path / "w"
    supervisor = start(tmp_path, folder)
    wait_until(lambda: num_settled(folder) > 3)
    os.kill(workers_of(supervisor.pid)[0], signal.SIGKILL)
    assert supervisor.wait() == 0
    assert results(folder) == clean
    rows = found_rows(items_of({}, 40), folder)
    assert all(row.is_done for row in rows)
    assert sum(row.attempts for row in rows) <= 41


def test_two_supervisors_share_the_cases(tmp_path, clean):
    folder = tmp_path / "w"
    pair = [start(tmp_path, folder, workers=workers) for workers in (1, 2)]
    assert [one.wait() for one in pair] == [0, 0]
    assert results(folder) == clean
    assert begun(tmp_path) == dict.fromkeys(range(40), 1)
    assert len({line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}) == 3
    require_clean(folder, items_of({}, 40))


def test_what_a_dead_supervisor_claimed_is_done_by_the_living(tmp_path, clean):
    folder = tmp_path / "w"
    pair = [start(tmp_path, folder, workers=workers) for workers in (1, 2)]
    wait_until(lambda: num_settled(folder) > 8 and all(workers_of(one.pid) for one in pair))
    pair[0].kill()
    pair[0].wait()
    assert pair[1].wait() == 0
    assert results(folder) == clean
    require_clean(folder, items_of({}, 40))


def test_what_a_living_one_claimed_is_waited_for(tmp_path):
    """As seen from another supervisor, which has nothing else to do."""
    items = items_of({}, 2)
    (tmp_path / "cases" / "c001").mkdir(parents=True)
    (tmp_path / "cases" / "c001" / "claim.0").write_text("them")

    def give_up(rows, stage, total=None):
        for row in rows:
            yield row
            assert row.case_id == "c000"
            os.kill(os.getpid(), signal.SIGUSR1)

    with hold(tmp_path / "owners" / "them", "batch"):
        with pytest.raises(StoppedError, match="SIGUSR1 after 1 of 2"):
            supervise(work, items, tmp_path, workers=0, watch=give_up)
        assert (tmp_path / "cases" / "c001" / "claim.0").read_text() == "them"
    assert all(row.is_done for row in supervise(work, items, tmp_path, workers=0))
    require_clean(tmp_path, items)


def test_ctrl_c_in_a_terminal_ends_workers_and_keeps_rows(tmp_path, clean):
    folder = tmp_path / "w"
    program = start(tmp_path, folder)
    wait_until(lambda: num_settled(folder) > 5)
    workers = workers_of(program.pid)
    program.send_signal(signal.SIGINT)
    assert program.wait() != 0
    assert not any(map(lives, workers))
    settled = num_settled(folder)
    assert 5 < settled < 40
    assert not list(folder.rglob("*.part-*"))
    assert not list(folder.rglob("claim.*"))
    assert start(tmp_path, folder).wait() == 0
    assert results(folder) == clean
