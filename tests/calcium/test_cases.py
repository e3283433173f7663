"""Label values become sides or calcium, nothing is left out unsaid, and a table holds what was measured."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.cases import (
    COLUMNS,
    MeasureConfig,
    measure_label,
    measure_manifest,
    require_table,
    table_rows,
    write_measurements,
)
from apatite.core.errors import ConfigError, DataError
from apatite.core.scan import Scan
from apatite.io.manifest import read_manifest


@pytest.fixture
def scan(make_stack):
    stack = make_stack([0, 3, 6])
    return Scan(voxels_hu=np.full(stack.shape, 333, np.int16), stack=stack)


@pytest.fixture
def label(scan):
    """Four pixels of 5, two of 7: 2.4 and 1.2 mm³."""
    values = np.zeros(scan.stack.shape, np.uint8)
    values[1, 1:3, 1:3], values[1, 5, 6:8] = 5, 7
    return values


def test_sides_by_value(scan, label):
    made = measure_label(scan, label, MeasureConfig(right=7, left=5, kvp=120))
    assert made.right is not None
    assert made.left is not None
    assert (made.right.volume_mm3, made.left.volume_mm3) == (pytest.approx(1.2), pytest.approx(2.4))
    assert (made.total.volume_mm3, made.agatston_standard) == (pytest.approx(3.6), True)


def test_one_value_is_calcium_on_either_side(scan, label):
    made = measure_label(scan, label, MeasureConfig(calcium=5))
    assert (made.right, made.left, made.kvp) == (None, None, None)
    assert made.total.volume_mm3 == pytest.approx(2.4)
    only = measure_label(scan, np.where(label == 5, label, 0).astype(np.uint8), MeasureConfig())
    assert only == made
    assert measure_label(scan, label * np.uint8(0), MeasureConfig()).total.volume_mm3 == 0


@pytest.mark.parametrize("config", [MeasureConfig(), MeasureConfig(right=5, left=6), MeasureConfig(right=1, left=2)])
def test_a_value_that_nobody_named_is_refused(scan, label, config):
    with pytest.raises(DataError, match="7") as caught:
        measure_label(scan, label, config)
    assert caught.value.code == "BAD_LABEL"


@pytest.mark.parametrize(
    "values",
    [{"right": 1}, {"left": 2}, {"right": 2, "left": 2}, {"right": 1, "left": 2, "calcium": 1}, {"calcium": 0}],
)
def test_settings_without_sense(values):
    with pytest.raises(ConfigError):
        MeasureConfig(**values)


def test_a_manifest_is_measured_and_a_bad_case_named(head_study):
    manifest = read_manifest(head_study.manifest)
    made = measure_manifest(manifest, MeasureConfig())
    assert list(made.measurements) == [case.case_id for case in manifest.cases if case.label]
    assert made.failures == []
    volumes = [measurement.total.volume_mm3 for measurement in made.measurements.values()]
    assert min(volumes) == 0 < max(volumes)
    cases = tuple(replace(case, image="gone.nii.gz") if n == 5 else case for n, case in enumerate(manifest.cases))
    again = measure_manifest(replace(manifest, cases=cases), MeasureConfig())
    assert [failure["where"] for failure in again.failures] == [manifest.cases[5].case_id]
    assert len(again.measurements) == len(made.measurements) - 1


def test_a_manifest_without_anything_to_measure(head_study):
    manifest = read_manifest(head_study.manifest)
    with pytest.raises(DataError) as caught:
        measure_manifest(replace(manifest, cases=manifest.cases[:3]), MeasureConfig())
    assert caught.value.code == "NO_CASES"
    gone = tuple(replace(case, image="gone.nii.gz") for case in manifest.cases)
    with pytest.raises(DataError, match="no case could be measured"):
        measure_manifest(replace(manifest, cases=gone), MeasureConfig())


def test_tables(scan, label, tmp_path):
    made = {
        "a": measure_label(scan, label, MeasureConfig(right=5, left=7)),
        "b": measure_label(scan, label * np.uint8(0), MeasureConfig()),
    }
    write_measurements(tmp_path / "t.csv", made)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["case_id"], row["side"]) for row in rows] == [
        ("a", "right"),
        ("a", "left"),
        ("a", "total"),
        ("b", "total"),
    ]
    assert [row["volume_mm3"] for row in rows] == ["2.4", "1.2", "3.6", "0.0"]
    assert (rows[3]["max_hu"], rows[3]["agatston_standard"]) == ("", "False")
    assert float(rows[0]["density_volume_hu_mm3"]) == 799.0  # 799.2, three figures
    write_measurements(tmp_path / "t.json", made)
    values = json.loads((tmp_path / "t.json").read_text())
    assert values["a"]["right"]["density_volume_hu_mm3"] == pytest.approx(799.2)
    assert values["b"]["right"] is None
    assert len(table_rows(made)) == 4
    with pytest.raises(ConfigError):
        require_table(tmp_path / "t.xlsx")


def test_cases_set_aside_are_not_measured_and_voltages_come_from_the_manifest(head_study):
    manifest = read_manifest(head_study.manifest)
    labelled = [case for case in manifest.cases if case.label]
    cases = (
        replace(labelled[0], verdict="set aside", codes=("CONTRAST",), split="unused"),
        replace(labelled[1], kvp=100.0),
        labelled[2],
    )
    made = measure_manifest(replace(manifest, cases=cases), MeasureConfig(kvp=120.0)).measurements
    assert {case_id: measurement.kvp for case_id, measurement in made.items()} == {
        labelled[1].case_id: 100.0,
        labelled[2].case_id: 120.0,
    }
