"""The commit of a file: at any moment the old one or the new one, and no debris that a process could have swept."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apatite.core.commit import (
    age_s,
    append_line,
    commit_bytes,
    commit_json,
    commit_once,
    commit_text,
    committed,
    committed_folder,
    sweep,
)
from apatite.core.errors import DataError, StorageError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_is_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "résumé.nii.gz"
    commit_bytes(path, b"\x00\x01")
    commit_bytes(path, b"\x02")
    assert path.read_bytes() == b"\x02"
    assert names(path.parent) == ["résumé.nii.gz"]


def test_the_temporary_file_keeps_the_suffixes_that_writers_look_at(tmp_path: Path) -> None:
    with committed(tmp_path / "a.nii.gz") as part:
        assert part.name.endswith(".nii.gz")
        assert part.parent == tmp_path
        part.write_bytes(b"1")


@pytest.mark.parametrize("failure", [ValueError("bad voxel"), KeyboardInterrupt(), SystemExit(143)])
def test_a_failure_midway_keeps_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "volume.bin"
    commit_bytes(path, b"old")
    with pytest.raises(type(failure)), committed(path) as part:
        part.write_bytes(b"half of the n")
        raise failure
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["volume.bin"]


def test_a_file_that_reads_back_wrong_is_not_committed(tmp_path: Path) -> None:
    def refuse(part: Path) -> None:
        raise StorageError(f"{part.stat().st_size} bytes", code="IO_ERROR")

    with pytest.raises(StorageError, match="3 bytes"), committed(tmp_path / "x", refuse) as part:
        part.write_bytes(b"abc")
    assert names(tmp_path) == []


@pytest.mark.parametrize("operation", ["fsync", "open"])
@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "NO_SPACE"), (errno.EDQUOT, "NO_SPACE"), (errno.EROFS, "READ_ONLY"), (errno.EIO, "IO_ERROR")],
)
def test_a_failing_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, number: int, code: str
) -> None:
    path = tmp_path / "report.json"
    commit_text(path, "old")

    def fail(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"apatite.core.commit.os.{operation}", fail)
    with pytest.raises(StorageError) as caught:
        commit_text(path, "new")
    monkeypatch.undo()
    assert (caught.value.code, caught.value.exit_code, caught.value.where) == (code, 75, str(path))
    assert caught.value.fix
    assert path.read_text() == "old"
    assert names(tmp_path) == ["report.json"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root and leave to mount")
    try:
        commit_bytes(disk / "kept", b"k" * 50_000)
        with pytest.raises(StorageError) as caught:
            commit_bytes(disk / "large", b"l" * 400_000)
        assert caught.value.code == "NO_SPACE"
        assert names(disk) == ["kept"]
        commit_bytes(disk / "small", b"s" * 50_000)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_path_whose_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        commit_text(tmp_path / "file" / "below", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError) as caught:
        commit_text(tmp_path / "x", "y")
    tmp_path.chmod(0o700)
    assert caught.value.code == "READ_ONLY"


KILLED = """
import sys
from pathlib import Path
from apatite.core.commit import commit_bytes
path, turn = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    turn += 1
    commit_bytes(path, bytes([turn % 251]) * 200_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    for delay_s in (0.02, 0.03, 0.05, 0.08, 0.11):
        writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = path.read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_json_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        commit_json(tmp_path / "x.json", {"dice": float("nan")})
    assert names(tmp_path) == []


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with committed_folder(folder) as part:
        (part / "inner").mkdir()
        (part / "inner" / "weights").write_bytes(b"w")
        assert not folder.exists()
    assert (folder / "inner" / "weights").read_bytes() == b"w"
    assert names(tmp_path) == ["model"]


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every fsync and rename in order, by the name that the file bears at that moment."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to see what is synced")
    seen: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def note_sync(descriptor: int) -> None:
        seen.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_move(move):
        def noted(source, target, **options) -> None:
            seen.append(f"{Path(source).name} -> {Path(target).name}")
            move(source, target, **options)

        return noted

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_move(rename))
    monkeypatch.setattr(os, "replace", note_move(replace))
    return seen


def test_a_file_is_durable_before_it_gets_its_name_and_its_folder_after(tmp_path: Path, happened: list[str]) -> None:
    with committed(tmp_path / "study" / "volumes.csv") as part:
        part.write_text("case_id")
        name = part.name
    assert happened == [f"fsync {name}", f"{name} -> volumes.csv", "fsync study"]


def test_every_entry_of_a_folder_is_durable_before_it_gets_its_name(tmp_path: Path, happened: list[str]) -> None:
    with committed_folder(tmp_path / "model") as part:
        (part / "inner").mkdir()
        (part / "inner" / "weights").write_bytes(b"w")
        name = part.name
    *synced, moved, last = happened
    assert sorted(synced) == sorted(["fsync inner", "fsync weights", f"fsync {name}"])
    assert (moved, last) == (f"{name} -> model", f"fsync {tmp_path.name}")


def test_every_line_of_a_journal_is_made_durable(tmp_path: Path, happened: list[str]) -> None:
    append_line(tmp_path / "metrics.jsonl", "{}")
    append_line(tmp_path / "metrics.jsonl", "{}")
    assert happened == ["fsync metrics.jsonl"] * 2


def test_a_failed_folder_leaves_nothing_and_an_existing_one_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), committed_folder(tmp_path / "model") as part:
        (part / "a").write_text("a")
        raise ValueError("bad")
    assert names(tmp_path) == []
    (tmp_path / "model").mkdir()
    with pytest.raises(DataError, match="exists"), committed_folder(tmp_path / "model"):
        pass
    assert names(tmp_path) == ["model"]


def test_sweeping_removes_what_a_killed_writer_left_and_nothing_else(tmp_path: Path, listing) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from apatite.core.commit import committed, committed_folder
run = Path(sys.argv[1])
with committed(run / "checkpoints" / "last") as file, committed_folder(run / "model") as folder:
    file.write_bytes(b"half")
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    commit_text(tmp_path / "checkpoints" / "last", "whole")
    for name in ("part-of-it", ".hidden", ".lease.json.waiting-0"):
        (tmp_path / name).write_text("kept")
    before = listing(tmp_path)
    assert subprocess.run([sys.executable, "-c", script, tmp_path], check=False).returncode == -signal.SIGKILL
    assert len(listing(tmp_path)) == len(before) + 4
    sweep(tmp_path)
    assert listing(tmp_path) == before
    assert (tmp_path / "checkpoints" / "last").read_text() == "whole"


def test_a_folder_that_cannot_be_swept_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".x.part-0").write_text("")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EROFS, "")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError) as caught:
        sweep(tmp_path)
    assert (caught.value.code, caught.value.where) == ("READ_ONLY", str(tmp_path))


def test_what_is_written_once_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lease.json"
    assert commit_once(path, "first")
    assert not commit_once(path, "second")
    assert path.read_text() == "first"
    assert names(path.parent) == ["lease.json"]


def test_age_is_told_by_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    assert 0 <= age_s(tmp_path / "x") < 5
    os.utime(tmp_path / "x", (0, time.time() - 1000))
    assert 999 < age_s(tmp_path / "x") < 1005
    assert age_s(tmp_path / "absent") == age_s(tmp_path / "no" / "folder") == 0.0
    assert names(tmp_path) == ["x"]


def test_a_journal_grows_and_a_torn_line_spoils_only_itself(tmp_path: Path) -> None:
    journal = tmp_path / "run" / "journal.jsonl"
    append_line(journal, '{"step": 1}')
    append_line(journal, '{"step": 2}\n')
    with journal.open("a") as file:
        file.write('{"ste')
    append_line(journal, '{"step": 3}')
    assert journal.read_text().splitlines() == ['{"step": 1}', '{"step": 2}', '{"ste', '{"step": 3}']
