"""The verb `draw` from outside: what it reads, writes and refuses."""

import json
from pathlib import Path
from typing import get_args

import pytest

from apatite.cli.draw import What
from apatite.cli.main import run
from apatite.core.commit import commit_text
from apatite.study.paper.draw import ALL, DRAWINGS
from apatite.study.paper.page import BEGIN, END


def test_the_verb_offers_every_drawing_and_no_other():
    assert set(get_args(What)) == {ALL, *DRAWINGS}


def test_an_empty_sweep_is_drawn_as_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "sweep" / "rows").mkdir(parents=True)
    page = tmp_path / "page.md"
    commit_text(page, f"{BEGIN}\n{END}\n")
    arguments = ["draw", "evidence", "-d", str(tmp_path / "sweep"), "-o", str(tmp_path / "drawn"), "--page", str(page)]
    assert run([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["records"] == 0
    assert {Path(name).name for name in values["files"]} >= {"evidence.html", "evidence.csv", "evidence.tex", "page.md"}
    assert set(values["verdicts"].values()) == {"not decidable"}
    assert "Nothing was run yet" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["draw", "main", "-d", "SWEEP"], 2, "nothing would be written"),
        (["draw", "main", "-d", "SWEEP", "--page", "page.md"], 2, "with evidence only"),
        (["draw", "main", "-d", "nowhere", "-o", "drawn"], 3, "MISSING_FILE"),
        (["draw", "mane", "-d", "SWEEP", "-o", "drawn"], 2, ""),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, words: str,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SWEEP" / "rows").mkdir(parents=True)
    assert run(arguments) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "drawn").exists()
