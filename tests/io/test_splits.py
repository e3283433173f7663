"""A patient is never divided, vendors are spread evenly, and the draw depends on nothing but the seed."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apatite.core.errors import ConfigError, DataError
from apatite.io.leaks import refuse_leaks
from apatite.io.manifest import Case, Manifest, read_manifest
from apatite.io.splits import SplitConfig, split_manifest


def cohort(series: list[int], vendors: list[str], is_labelled=lambda patient, number: True) -> Manifest:
    cases = [
        Case(
            case_id=f"c{patient:03d}-{number}",
            patient_id=f"p{patient:03d}",
            image=f"{patient}-{number}.nii.gz",
            label=f"l{patient}-{number}.nii.gz" if is_labelled(patient, number) else "",
            vendor=vendors[patient % len(vendors)],
        )
        for patient, count in enumerate(series)
        for number in range(count)
    ]
    return Manifest(root=Path(), cases=tuple(cases), label_names={1: "calcium"})


def patients_of(manifest: Manifest, *splits: str) -> set[str]:
    return {case.patient_id for case in manifest.of_split(*splits)}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=10, max_size=50),
    st.lists(st.sampled_from(["ge", "siemens", "philips", "rare"]), min_size=1, max_size=7),
    st.integers(0, 99),
    st.floats(0, 1),
)
def test_rules_that_hold_for_every_cohort(series, vendors, seed, labelled_part):
    manifest = cohort(series, vendors, lambda patient, number: (patient * 7 + number) % 10 <= labelled_part * 9)
    num_labelled = len({case.patient_id for case in manifest.cases if case.label})
    assume(num_labelled == 0 or num_labelled >= 5)
    result = split_manifest(manifest, SplitConfig(seed=seed))
    assert [case.case_id for case in result.cases] == [case.case_id for case in manifest.cases]
    refuse_leaks(result.cases, {})
    for split in ("development", "test"):
        held = result.of_split(split)
        assert held
        assert len({case.patient_id for case in held}) == len(held)
    training = patients_of(result, "pretrain", "finetune")
    assert not training & patients_of(result, "unused")
    tuned = result.of_split("finetune")
    assert all(case.label for case in tuned)
    assert len({case.patient_id for case in tuned}) == len(tuned)
    if any(case.label for case in result.cases):
        assert all(case.label for case in result.of_split("development", "test"))
        assert tuned


def test_sizes_are_those_of_the_paper():
    result = split_manifest(cohort([3] * 200, ["ge", "siemens"]), SplitConfig(seed=4))
    assert len(patients_of(result, "pretrain", "finetune")) == 160
    counts = Counter(case.split for case in result.cases)
    assert (counts["development"], counts["test"], counts["finetune"]) == (20, 20, 16)
    assert counts["unused"] == 2 * 40
    assert counts["pretrain"] == 3 * 160 - 16


def test_every_vendor_gets_its_share():
    result = split_manifest(cohort([1] * 400, ["ge", "ge", "siemens", "philips"]), SplitConfig(seed=1))
    for split, total in [("test", 40), ("development", 40), ("finetune", 32)]:
        share = Counter(case.vendor for case in result.of_split(split))
        for vendor, fraction in [("ge", 0.5), ("siemens", 0.25), ("philips", 0.25)]:
            assert abs(share[vendor] - fraction * total) <= 1


def test_the_order_of_the_rows_does_not_matter():
    manifest = cohort([2, 1, 3] * 20, ["ge", "siemens"])
    turned = Manifest(root=Path(), cases=manifest.cases[::-1], label_names={1: "calcium"})
    config = SplitConfig(seed=9)
    first = {case.case_id: case.split for case in split_manifest(manifest, config).cases}
    second = {case.case_id: case.split for case in split_manifest(turned, config).cases}
    assert first == second
    other = {case.case_id: case.split for case in split_manifest(manifest, SplitConfig(seed=10)).cases}
    assert other != first


def test_folds_divide_all_patients_outside_test():
    manifest = cohort([2] * 53, ["ge", "siemens", "philips"])
    seen: dict[str, set[int]] = defaultdict(set)
    held = []
    tests = set()
    for fold in range(5):
        result = split_manifest(manifest, SplitConfig(folds=5, fold=fold, seed=2))
        refuse_leaks(result.cases, {})
        held.append(patients_of(result, "development"))
        tests.add(frozenset(patients_of(result, "test")))
        for case in result.cases:
            if case.fold is not None:
                seen[case.patient_id].add(case.fold)
    assert len(tests) == 1
    assert all(len(folds) == 1 for folds in seen.values())
    assert set.union(*held) == set(seen)
    assert sum(map(len, held)) == len(seen) == 53 - len(next(iter(tests)))
    assert max(map(len, held)) - min(map(len, held)) <= 1


def test_a_number_of_labelled_cases_is_met_exactly():
    manifest = cohort([2] * 100, ["ge", "siemens"])
    assert len(split_manifest(manifest, SplitConfig(labelled=25)).of_split("finetune")) == 25
    with pytest.raises(DataError, match="81 labelled cases were asked for, 80"):
        split_manifest(manifest, SplitConfig(labelled=81))


def test_images_without_any_label_still_pretrain():
    result = split_manifest(cohort([1] * 20, ["ge"], lambda *_: False), SplitConfig())
    assert not result.of_split("finetune")
    assert len(result.of_split("pretrain")) == 16


@pytest.mark.parametrize(("patients", "split"), [(2, "development"), (1, "development")])
def test_an_empty_split_is_named(patients, split):
    with pytest.raises(DataError, match=split) as caught:
        split_manifest(cohort([1] * patients, ["ge"]), SplitConfig())
    assert caught.value.code == "EMPTY_SPLIT"
    assert caught.value.fix


def test_no_training_case_is_named():
    with pytest.raises(DataError) as caught:
        split_manifest(cohort([1, 1, 1], ["ge"]), SplitConfig(development=0.45, test=0.5))
    assert caught.value.code == "EMPTY_SPLIT"


@pytest.mark.parametrize(
    "values",
    [
        {"development": -0.1},
        {"development": 0.5, "test": 0.5},
        {"labelled": 0},
        {"folds": 1},
        {"folds": 5, "fold": 5},
        {"folds": 2, "keep_splits": True},
    ],
)
def test_nonsense_is_refused(values):
    with pytest.raises(ConfigError):
        SplitConfig(**values)


def test_given_splits_are_kept(tmp_path):
    rows = [f"c{n},p{n},i{n},l{n},{'train' if n < 8 else 'development'}" for n in range(10)]
    rows += ["d0,p0,j0,,", "d9,p9,j9,,", "d11,p11,j11,,"]
    (tmp_path / "m.csv").write_text("\n".join(["case_id,patient_id,image,label,split", *rows]))
    manifest = read_manifest(tmp_path / "m.csv", {"train": "pretrain"})
    result = split_manifest(manifest, SplitConfig(keep_splits=True, labelled=3))
    splits = {case.case_id: case.split for case in result.cases}
    assert Counter(splits.values()) == {"finetune": 3, "pretrain": 7, "development": 2, "unused": 1}
    assert splits["d9"] == "unused"
    assert splits["d11"] == "pretrain"
    with pytest.raises(DataError, match="could be kept"):
        split_manifest(cohort([1] * 5, ["ge"]), SplitConfig(keep_splits=True))


def test_cases_with_a_verdict_are_never_split():
    manifest = cohort([2] * 12, ["ge"], is_labelled=lambda patient, number: False)
    judged = tuple(
        replace(case, verdict="set aside", codes=("NOT_BEST",)) if case.case_id.endswith("-1") else case
        for case in manifest.cases
    )
    split = split_manifest(replace(manifest, cases=judged), SplitConfig())
    assert {case.split for case in split.cases if case.verdict} == {"unused"}
    assert {case.split for case in split.usable} == {"pretrain", "development", "test"}
    with pytest.raises(DataError, match="no usable case"):
        split_manifest(replace(manifest, cases=judged[1::2]), SplitConfig())
