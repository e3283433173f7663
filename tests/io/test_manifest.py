"""A manifest that is written comes back; one that is wrong is named by row and column."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.io.manifest import COLUMNS, Case, Manifest, manifest_digest, read_manifest, write_manifest

TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x85\u2028\u2029"), max_size=12
).map(str.strip)
FINITE = st.floats(-1e6, 1e6)


@st.composite
def columns(draw) -> dict:
    # Plain values: building a checked dataclass inside a strategy would draw from the global random state.
    return {
        "case_id": draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)),
        "patient_id": draw(TEXT.filter(bool)),
        "image": draw(TEXT.filter(bool)),
        "label": draw(TEXT),
        "split": draw(st.sampled_from(["", "pretrain", "finetune", "development", "test", "unused"])),
        "annotated_labels": tuple(sorted(draw(st.sets(st.integers(1, 5), max_size=4)))),
        "domain": draw(st.sampled_from(["phantom", "real"])),
        "vendor": draw(TEXT | st.sampled_from(["=1+2", "+x", "-x", "@x", "'x", "''", "a,b", 'a"b'])),
        "kernel_class": draw(st.sampled_from(["", "soft", "bone"])),
        "slice_thickness_mm": draw(st.none() | FINITE),
        "age": draw(st.none() | FINITE),
        "region_centre_ras_mm": draw(st.none() | st.tuples(FINITE, FINITE, FINITE)),
        "fold": draw(st.none() | st.integers(0, 9)),
        "study": draw(TEXT),
        "codes": tuple(draw(st.lists(st.sampled_from(["TILT", "OVERLAP", "KVP"]), unique=True, max_size=3))),
        "kvp": draw(st.none() | FINITE),
    } | draw(st.just({}) | st.just({"verdict": "refused", "split": "unused", "codes": ("GAP", "TILT")}))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(columns(), min_size=1, max_size=4, unique_by=lambda values: values["case_id"]))
def test_a_manifest_comes_back(tmp_path, drawn):
    manifest = Manifest(
        root=tmp_path,
        cases=tuple(Case(**values) for values in drawn),
        label_names={n: f"organ {n}" for n in range(1, 6)},
    )
    write_manifest(tmp_path / "m.csv", manifest)
    again = read_manifest(tmp_path / "m.csv")
    assert again == manifest
    assert manifest_digest(again) == manifest_digest(manifest)


def case(case_id: str = "a", **values) -> Case:
    return Case(case_id=case_id, patient_id="p", image=f"images/{case_id}.nii.gz", **values)


def table(
    tmp_path: Path, *rows: str, columns: str = "case_id,patient_id,image,label,split,annotated_labels,age"
) -> Path:
    path = tmp_path / "m.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("row", "place", "hint"),
    [
        ("A b,p,i,,,,", "row 2", "cannot be a case_id"),
        ("../x,p,i,,,,", "row 2", "cannot be a case_id"),
        (",p,i,,,,", "row 2", "cannot be a case_id"),
        ("a,,i,,,,", "row 2", "must not be empty"),
        ("a,p,,,,,", "row 2", "must not be empty"),
        ("a,p,i,,tset,,", "row 2", "'test'"),
        ("a,p,i,,,0 1,", "row 2", "254"),
        ("a,p,i,,,1;2,", "row 2", "annotated_labels"),
        ("a,p,i,,,,old", "row 2", "age"),
        ("a,p,i,,,,nan", "row 2", "age"),
        ("a,p,i,,,", "row 2", "cells"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, place, hint):
    with pytest.raises(DataError) as caught:
        read_manifest(table(tmp_path, row))
    assert place in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"verdict": "bad", "codes": ("GAP",)}, "unknown verdict"),
        ({"verdict": "refused"}, "without a code"),
        ({"codes": ("GAAP",)}, "unknown code 'GAAP'"),
        ({"verdict": "set aside", "codes": ("MPR",), "split": "test"}, "unknown code"),
        *(
            ({"verdict": "set aside", "codes": ("REFORMAT",), "split": split}, f"in the split '{split}'")
            for split in ("pretrain", "finetune", "development", "test")
        ),
    ],
)
def test_a_verdict_has_a_reason_and_keeps_a_case_out_of_every_split(values, hint):
    with pytest.raises(DataError, match=hint):
        case(**values)


def test_cases_without_a_verdict_are_usable():
    cases = (case("a"), case("b", verdict="refused", codes=("GAP",), split="unused"), case("c", codes=("TILT",)))
    manifest = Manifest(root=Path(), cases=cases, label_names={})
    assert [one.case_id for one in manifest.usable] == ["a", "c"]


def test_a_missing_column_suggests_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"patient_id.*patientid"):
        read_manifest(table(tmp_path, "a,p,i", columns="case_id,patientid,image"))


@pytest.mark.parametrize("content", ["", "case_id,patient_id,image\n", "\n\n"])
def test_a_table_without_cases_is_refused(tmp_path, content):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(DataError, match="lists no case"):
        read_manifest(tmp_path / "m.csv")


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "missing.csv")


def test_two_cases_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="used 2 times"):
        read_manifest(table(tmp_path, "a,p,i,,,,", "a,q,j,,,,"))


def test_unknown_columns_are_listed(tmp_path):
    manifest = read_manifest(table(tmp_path, "a,p,i,7", columns="case_id,patient_id,image,weight"))
    assert manifest.ignored_columns == ("weight",)


def test_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path):
    (tmp_path / "m.csv").write_text("\ufeffcase_id,patient_id,image\n\na,p,i\n\n", encoding="utf-8")
    assert read_manifest(tmp_path / "m.csv").cases[0].case_id == "a"


def test_label_names_default_to_their_values(tmp_path):
    manifest = read_manifest(table(tmp_path, "a,p,i,l,,2 4,", "b,p,i,l,,4,"))
    assert manifest.label_names == {2: "label 2", 4: "label 4"}
    assert manifest.annotated(manifest.cases[1]) == (4,)
    assert read_manifest(table(tmp_path, "a,p,i,l,,,")).label_names == {1: "label 1"}


def test_a_label_without_name_is_refused(tmp_path):
    path = table(tmp_path, "a,p,i,l,,1 3,")
    (tmp_path / "m.labels.json").write_text('{"1": "calcium"}')
    with pytest.raises(DataError, match="annotated label 3 has no name"):
        read_manifest(path)
    (tmp_path / "m.labels.json").write_text('["calcium"]')
    with pytest.raises(DataError, match="not a table of label names"):
        read_manifest(path)


def test_cells_that_look_like_formulas_are_quoted(tmp_path):
    write_manifest(tmp_path / "m.csv", Manifest(root=tmp_path, cases=(case(vendor='=HYPERLINK("x")'),), label_names={}))
    with (tmp_path / "m.csv").open() as file:
        row = next(csv.DictReader(file))
    assert row["vendor"].startswith("'=")
    assert tuple(row) == COLUMNS


def test_paths_follow_the_manifest_to_another_folder(tmp_path):
    first = tmp_path / "data" / "first"
    manifest = Manifest(
        root=first, cases=(case(label="labels/a.nii.gz"), case("b", truth="truth/b.json")), label_names={1: "calcium"}
    )
    manifest = replace(manifest, cases=(*manifest.cases, replace(case("c"), image="/data/c.nii.gz")))
    write_manifest(tmp_path / "study" / "m.csv", manifest)
    again = read_manifest(tmp_path / "study" / "m.csv")
    for before, after in zip(manifest.cases, again.cases, strict=True):
        assert again.image_path(after).resolve() == manifest.image_path(before).resolve()
    assert again.label_path(again.cases[0]).resolve() == (first / "labels/a.nii.gz").resolve()
    assert again.truth_path(again.cases[1]).resolve() == (first / "truth/b.json").resolve()
    assert again.cases[2].image == "/data/c.nii.gz"


def test_cases_of_several_splits_keep_their_order():
    drawn = tuple(
        case(name, split=split) for name, split in zip("abcd", ["test", "finetune", "pretrain", "test"], strict=True)
    )
    manifest = Manifest(root=Path(), cases=drawn, label_names={})
    assert [c.case_id for c in manifest.of_split("pretrain", "test")] == ["a", "c", "d"]
