import json

import pytest

from apatite.cli import main
from apatite.study.sweep.record import read_records

GRID = """
tier: own
resamples: 20
pretrain: {recipe: sweep}
finetune:
  recipe: sweep
  change:
    - steps=2
    - check_every=1
    - batch=4
    - "precision={device: cpu, format: fp32, attention_in_fp32: false, head_multiple: 1, threads: 1}"
defaults: {patch: [4, 8, 8]}
blocks:
  - axes: {labels: [5, 99]}
"""


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GRID)
    return path


def test_a_sweep_by_the_command(grid, head_study, tmp_path, capsys):
    """Listed, done in a process of its own, and found done by the next call, which knows the data."""
    out = tmp_path / "sweep"

    def run(*arguments: object) -> dict:
        assert main.run(["sweep", str(grid), "-o", str(out), "--json", *map(str, arguments)]) == 0
        return json.loads(capsys.readouterr().out)

    listed = run("-d", head_study.prepared, "--list")
    assert [row["state"] for row in listed["rows"]] == ["open", "left out"] and listed["minutes_left"] > 3
    assert not out.exists()
    done = run("-d", f"perfect={head_study.prepared}", "--minutes", "30")
    assert done["counts"]["done"] == 1 and done["stopped_by"] == ""
    (record,) = read_records(out)
    assert record.steps == 2 and done["rows"][0]["name"] == record.name and done["rows"][0]["minutes"] > 0
    assert run("--retry")["counts"]["done"] == 1
    assert main.run(["sweep", str(grid), "-o", str(out), "--list"]) == 0
    assert "1 done, 1 left out; records:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-grid"], "unknown grid"),
        (["small-seed"], "did you mean 'small-seeds'"),
        (["small-seeds", "tire=3"], "unknown key 'tire'"),
        (["small-seeds", "-d", "reader=a", "-d", "reader=b"], "two folders"),
        (["small-seeds", "--minutes", "0"], "no time"),
        (["small-seeds", "-d", "missing"], "not a prepared folder"),
        (["small-seeds"], "no data of the perfect labels"),
        (["small-seeds", "--only", "xyz"], "no row is called"),
    ],
)
def test_what_cannot_be_swept_is_refused(arguments, message, tmp_path, capsys):
    assert main.run(["sweep", *arguments, "-o", str(tmp_path / "sweep")]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
