"""One folder is one run, and every look at a held-out split stays on record."""

import errno
import json
import os
from pathlib import Path

import pytest

from apatite.core.errors import DataError, StorageError
from apatite.io.run_folder import RunFolder, environment


def test_a_run_is_never_overwritten(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"seed": 7})
    assert json.loads(run.manifest.read_text())["seed"] == 7
    with pytest.raises(DataError, match="holds no run"):
        RunFolder.open(tmp_path / "run")
    run.config.write_text("seed: 1\n")
    assert RunFolder.open(tmp_path / "run") == run
    with pytest.raises(DataError, match="holds a run already"):
        RunFolder.create(tmp_path / "run")
    with pytest.raises(DataError, match="holds no run"):
        RunFolder.open(tmp_path)


def test_looks_are_counted_and_a_torn_line_is_skipped(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    assert run.log_look("test", "evaluate", "model 12ab") == 1
    assert run.log_look("development", "calibrate") == 1
    with run.looks.open("a") as file:
        file.write('{"split": "te\n')
    assert run.log_look("test", "evaluate") == 2
    assert [look["verb"] for look in run.read_looks()] == ["evaluate", "calibrate", "evaluate"]
    assert run.read_looks()[0]["detail"] == "model 12ab"


@pytest.mark.parametrize(("number", "code"), [(errno.EROFS, "READ_ONLY"), (errno.ENOSPC, "NO_SPACE")])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch, number, code):
    def fail(self: Path, *args, **kwargs) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(StorageError) as caught:
        RunFolder.create(tmp_path / "run")
    assert caught.value.code == code


def test_the_environment_is_plain_values():
    found = environment()
    assert found["packages"]["numpy"]
    assert environment(["no-such-package"])["packages"] == {"no-such-package": None}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
