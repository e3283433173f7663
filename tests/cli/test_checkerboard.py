import json

from apatite.cli.main import run


def test_it_says_where_the_page_is(tuned, head_study, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["checkerboard", "-m", str(tuned), "-d", str(head_study.prepared), "-o", str(out)]
    assert run([*arguments, "--case", "head-05", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["report"], values["case_id"]) == (str(out / "report.html"), "head-05")
    assert [scale["what"] for scale in values["models"]["tuned"]["scales"]] == ["features", "logits"]
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("stride 4×8×8", "logits", "largest"))
    assert str(out / "report.html").split("/")[-1] in shown
    assert run([*arguments, "--case", "head-20"]) == 2
    assert "test split" in capsys.readouterr().err
