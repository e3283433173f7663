"""The verb from a prepared site to a package, its page and its words."""

import json

from apatite.cli import main
from apatite.io.model_package import read_package


def test_a_site_in_one_command(tuned, head_study, sees_hu, tmp_path, capsys):
    out = tmp_path / "site"
    words = ["recalibrate", "-m", str(tuned), "-d", str(head_study.prepared), "-o", str(out), "--split"]
    assert main.run([*words, "development"]) == 3
    assert "7 patients of a site are too few" in capsys.readouterr().err
    assert not out.exists()
    assert main.run([*words, "all", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["package"] == str(out / "model")
    assert (values["patients"], values["folds"]) == (19, 5)
    assert "threshold" in values["verdicts"]["1"]["sentence"]
    card = read_package(out / "model").card
    assert card.domains["calibration"] == ["phantom"]
    assert set(card.calibration or {}) >= {"labels", "temperatures", "intervals", "model_digest", "data_digest"}
    assert (out / "recalibration.html").read_text().startswith("<!DOCTYPE html>")
    assert main.run([*words, "all"]) == 3
    assert "exists already" in capsys.readouterr().err
