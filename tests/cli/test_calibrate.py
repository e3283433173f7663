"""The threshold is chosen on development cases; a test case is not even opened."""

from apatite.cli import main
from apatite.io.manifest import read_manifest
from apatite.study import cases as study_cases


def test_only_development_cases_are_opened(tuned, head_study, tmp_path, monkeypatch, capsys):
    opened, read_image = [], study_cases.read_image

    def note(path, case_id=""):
        opened.append(case_id)
        return read_image(path, case_id)

    monkeypatch.setattr(study_cases, "read_image", note)
    code = main.run(["calibrate", "-m", str(tuned), "-d", str(head_study.prepared), "-o", str(tmp_path / "better")])
    assert code == 0, capsys.readouterr().err
    development = read_manifest(head_study.manifest).of_split("development")
    assert len(development) == 7
    assert sorted(opened) == sorted(case.case_id for case in development)
