"""Which labelled cases are learned from: all, some of them by a draw, none of those held out."""

from dataclasses import replace
from itertools import pairwise

import pytest

from apatite.core.errors import DataError
from apatite.io.manifest import Manifest
from apatite.segment.finetune import finetune
from apatite.segment.labelled import labelled_rows


def test_which_cases_are_learned_from(head_study, body_study, tiny):
    prepared = head_study.open()
    kept = labelled_rows(prepared, tiny)
    dropped = labelled_rows(prepared, replace(tiny, drop_empty_cases=True))
    assert [prepared.cases[row].split for row in kept] == ["finetune"] * 5
    assert [prepared.cases[row].case_id for row in set(kept) - set(dropped)] == ["head-04"]
    bodies = body_study.open()
    assert len(labelled_rows(bodies, replace(tiny, drop_empty_cases=True))) == 4
    bodies.is_annotated[:2] = False
    assert [bodies.cases[row].case_id for row in labelled_rows(bodies, tiny)] == ["body-2", "body-3"]


def test_fewer_labels_are_a_subset_of_more_under_one_draw(head_study, tiny):
    prepared = head_study.open()
    everything = labelled_rows(prepared, tiny)
    curves = [
        [set(labelled_rows(prepared, replace(tiny, num_labelled=count, draw=draw))) for count in range(1, 6)]
        for draw in range(12)
    ]
    for sets in curves:
        assert [len(rows) for rows in sets] == [1, 2, 3, 4, 5]
        assert all(fewer < more for fewer, more in pairwise(sets))
        assert sets[-1] == set(everything)
    assert {next(iter(sets[0])) for sets in curves} == set(everything), "every case comes first in some draw"


def test_more_labels_than_there_are(head_study, tiny):
    with pytest.raises(DataError, match="5 labelled cases, 6 were asked for") as caught:
        labelled_rows(head_study.open(), replace(tiny, num_labelled=6))
    assert caught.value.code == "TOO_FEW_CASES"


def test_held_out_cases_are_never_learned_from(head_study, tiny):
    prepared = head_study.open()
    cases = [replace(case, vendor="GE" if row % 2 else "Siemens") for row, case in enumerate(prepared.cases)]
    manifest = Manifest(root=prepared.manifest.root, cases=tuple(cases), label_names=prepared.manifest.label_names)
    mixed = replace(prepared, manifest=manifest)
    rows = labelled_rows(mixed, replace(tiny, hold_out=("vendor=ge",)))
    assert rows and all(row % 2 == 0 for row in rows)
    with pytest.raises(DataError) as caught:
        labelled_rows(mixed, replace(tiny, hold_out=("vendor=GE", "vendor=Siemens")))
    assert caught.value.code == "EMPTY_SPLIT"


def test_no_case_or_no_label_to_learn_from(head_study, tiny, tmp_path, monkeypatch):
    prepared = head_study.open()
    prepared.is_annotated[:] = False
    with pytest.raises(DataError) as caught:
        labelled_rows(prepared, tiny)
    assert caught.value.code == "EMPTY_SPLIT"
    monkeypatch.setattr("apatite.segment.labelled._has_label", lambda *_: False)
    with pytest.raises(DataError) as caught:
        finetune(tiny, head_study.prepared, tmp_path / "run")
    assert (caught.value.code, list(tmp_path.iterdir())) == ("BAD_LABEL", [])
