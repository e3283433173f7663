"""The rules that hold for every verb, and what each kind of failure looks like from outside."""

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest

from apatite.cli import main
from apatite.cli.console import Outcome
from apatite.cli.flags import CommonFlags
from apatite.core.errors import ConfigError, DataError, StorageError

FLAG_OF = {"-i": {"--input"}, "-o": {"--out"}, "-m": {"--model"}, "-d": {"--data"}, "-t": {"--template"}}


def words(text: str) -> str:
    """Help text without boxes and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("name", main.VERBS)
def test_help_shows_an_example_that_can_be_parsed(name, capsys, monkeypatch):
    assert main.run([name, "--help"]) == 0
    text = words(capsys.readouterr().out)
    assert "--json" in text
    example = re.search(r"Example: apatite (.*?) (?:options|positional)", text)
    assert example, text
    ran = []
    monkeypatch.setattr(main.VERBS[name], "run", lambda verb: ran.append(verb) or Outcome(values={}))
    arguments = example.group(1).strip().split()
    assert arguments[0] == name
    assert main.run(arguments) == 0
    assert len(ran) == 1


@pytest.mark.parametrize("name", main.VERBS)
def test_short_flags_mean_the_same_everywhere(name):
    hints = get_type_hints(main.VERBS[name], include_extras=True)
    assert issubclass(main.VERBS[name], CommonFlags)
    for field in fields(main.VERBS[name]):
        long = "--" + field.name.replace("_", "-")
        for extra in get_args(hints[field.name])[1:] if get_origin(hints[field.name]) else ():
            for alias in getattr(extra, "aliases", None) or ():
                assert long in FLAG_OF[alias]
        if long in {name for names in FLAG_OF.values() for name in names}:
            aliases = [getattr(extra, "aliases", None) for extra in get_args(hints[field.name])[1:]]
            assert any(aliases), f"{name} {long} has no short flag"


@pytest.mark.parametrize(
    "arguments",
    [["predictt"], [], ["predict"], ["list", "recipe"], ["doctor", "--jason"], ["evaluate", "--split", "all"]],
)
def test_usage_errors(arguments, capsys):
    assert main.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_an_unknown_key_suggests_the_nearest(head_study, tmp_path, capsys):
    for verb, wrong, right in (
        ("finetune", "optim.lerning=1", "lr"),
        ("finetune", "stepz=1", "steps"),
        ("pretrain", "epoch=1", "epochs"),
    ):
        out = tmp_path / "run"
        code = main.run([verb, "--json", "-d", str(head_study.prepared), "-o", str(out), wrong])
        captured = capsys.readouterr()
        values = json.loads(captured.out)
        assert (code, values["exit_code"], values["error"]) == (2, 2, "ConfigError")
        assert right in values["fix"]
        assert captured.err.startswith("error: ")
        assert not out.exists()
    assert main.run(["finetune", "-d", "x", "-o", "y", "--recipe", "smal"]) == 2
    assert "did you mean 'small'?" in capsys.readouterr().err


def test_a_file_of_settings_is_refused_with_its_name(tmp_path, capsys):
    for content, named in (("stepz: 3", "stepz"), ("- a", "mapping"), ("{", "YAML"), ("batch: many", "batch")):
        (tmp_path / "run.yaml").write_text(content)
        code = main.run(["finetune", "-d", "x", "-o", "y", "--config", str(tmp_path / "run.yaml")])
        error = capsys.readouterr().err
        assert (code, named in error, "run.yaml" in error) == (2, True, True), error


@pytest.mark.parametrize("what", ["methods", "models", "networks", "decoders", "layouts", "recipes"])
def test_list(what, capsys):
    assert main.run(["list", what, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)[what]
    assert table
    assert all(text.strip() and not text.endswith(";") for text in table.values())
    assert main.run(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == list(table)


def test_doctor(capsys):
    assert main.run(["doctor", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["device"] in ("cpu", "cuda", "mps")
    assert values["threads"] >= 1
    assert set(values["optional"]) == {"monai", "statsmodels"}
    assert main.run(["doctor"]) == 0
    assert "device" in capsys.readouterr().out


def test_version(capsys):
    assert main.run(["--version"]) == 0
    assert re.fullmatch(r"apatite \d+\.\d+\.\d+\n", capsys.readouterr().out)


@dataclass(frozen=True, kw_only=True)
class Fails(CommonFlags):
    """Fail as told.

    Example: apatite fails
    """

    error: str = "data"
    """Which error."""

    def run(self) -> Outcome:
        if self.error == "partial":
            return Outcome(values={"path": "a[b]:smile:"}, lines=["wrote a[b]:smile:"], exit_code=8)
        raise {
            "data": DataError("is torn", where="case-7", fix="copy it again", code="TRUNCATED"),
            "usage": ConfigError("is nonsense", where="lr"),
            "storage": StorageError("cannot write", where="out", fix="free some space", code="NO_SPACE"),
            "bug": ZeroDivisionError("planted"),
            "interrupt": KeyboardInterrupt(),
        }[self.error]


@pytest.fixture
def fails(monkeypatch):
    monkeypatch.setitem(main.VERBS, "fails", Fails)


@pytest.mark.parametrize(
    ("error", "code"), [("data", 3), ("usage", 2), ("storage", 75), ("bug", 1), ("interrupt", 130), ("partial", 8)]
)
def test_exit_codes(fails, error, code, capsys):
    assert main.run(["fails", "--error", error]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert main.run(["fails", "--error", error, "--json"]) == code
    shown = capsys.readouterr().out
    if error != "interrupt":
        assert len(shown.splitlines()) == 1
        assert json.loads(shown).get("exit_code", code) == code


def test_an_error_says_what_where_and_what_next(fails, capsys):
    main.run(["fails"])
    captured = capsys.readouterr()
    assert captured.err == "error: case-7: is torn [TRUNCATED] -> copy it again\n"
    assert captured.out == ""
    main.run(["fails", "--json"])
    assert json.loads(capsys.readouterr().out) == {
        "error": "DataError",
        "what": "is torn",
        "where": "case-7",
        "fix": "copy it again",
        "code": "TRUNCATED",
        "exit_code": 3,
    }


def test_a_bug_asks_to_be_reported_and_debug_shows_where(fails, capsys):
    main.run(["fails", "--error", "bug"])
    assert "ZeroDivisionError: planted" in (error := capsys.readouterr().err)
    assert "report" in error
    with pytest.raises(ZeroDivisionError):
        main.run(["fails", "--error", "bug", "--debug"])
    with pytest.raises(DataError):
        main.run(["fails", "--debug"])


def test_paths_are_printed_as_they_are(fails, capsys):
    main.run(["fails", "--error", "partial"])
    assert capsys.readouterr().out == "wrote a[b]:smile:\n"


def test_a_full_disk_can_be_told_from_a_bug(tuned, head_study, tmp_path, capsys, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code = main.run(["predict", "-m", str(tuned), "-i", str(head_study.manifest), "-o", str(tmp_path / "out")])
    assert code == 75
    assert "[NO_SPACE] -> free some space" in capsys.readouterr().err


def test_a_termination_leaves_through_the_clean_up(tmp_path):
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom apatite.cli import main\n"
        "from apatite.core.commit import committed\n"
        "def run(verb):\n"
        "    with committed(Path(sys.argv[1]) / 'file') as part:\n"
        "        part.write_text('x')\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        signal.pause()\n"
        "main.VERBS['doctor'].run = run\nmain.main(['doctor'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, timeout=60)
    assert done.returncode == 143, done.stderr.decode()
    assert list(Path(tmp_path).iterdir()) == []
