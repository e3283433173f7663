"""Arrays whose length is known at the end, and folders that do not hold what they say."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.io.store import ArrayWriter, Prepared, write_volume_group


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.booleans(), max_size=12), st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 10**9))
def test_rows_come_back(tmp_path, is_zero, shape, more):
    rows = [None if zero else np.full(shape, n + 1, np.int16) for n, zero in enumerate(is_zero)]
    writer = ArrayWriter(tmp_path / "a.npy", shape, np.int16, len(rows) + more)
    for row in rows:
        writer.append(row)
    writer.finish()
    expected = [np.zeros(shape, np.int16) if row is None else row for row in rows]
    found = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, np.array(expected, np.int16).reshape(-1, *shape))


def test_a_volume_is_one_file_per_array(tmp_path):
    import zarr

    image = np.arange(40 * 33 * 70).reshape(40, 33, 70).astype(np.int16)
    write_volume_group(tmp_path / "v", image, None)
    group = zarr.open_group(tmp_path / "v", mode="r")
    np.testing.assert_array_equal(group["image"][3:9, 30:, 10:50], image[3:9, 30:, 10:50])
    assert "labels" not in group
    assert len([p for p in (tmp_path / "v" / "image").rglob("*") if p.is_file()]) == 2


def test_what_was_looked_for_is_said_per_case_in_the_order_of_the_labels(body_study):
    prepared = body_study.open()
    assert prepared.label_values == (2, 5)
    assert prepared.is_annotated.tolist() == [[True, number % 2 == 0] for number in range(12)]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 1}', '{"format": 9, "kind": "region", "root": "/"}'])
def test_another_folder_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "prepared.json").write_text(content)
    with pytest.raises(DataError, match="prepare"):
        Prepared.open(tmp_path)


def test_arrays_that_do_not_fit_the_table_are_refused(tmp_path):
    (tmp_path / "cases.csv").write_text("case_id,patient_id,image\na,a,a.nii\n")
    about = {"format": 1, "kind": "region", "root": "/", "label_names": {}}
    (tmp_path / "prepared.json").write_text(json.dumps(about))
    np.save(tmp_path / "grids.npy", np.zeros((1, 4, 4)))
    np.save(tmp_path / "images.npy", np.zeros((2, 3, 4, 5), np.int16))
    np.save(tmp_path / "fractions.npy", np.zeros((1, 0, 3, 4, 5), np.uint8))
    with pytest.raises(DataError, match=r"images\.npy has the shape \(2, 3, 4, 5\), not \(1, 3, 4, 5\)"):
        Prepared.open(tmp_path)
    (tmp_path / "images.npy").write_bytes(b"short")
    with pytest.raises(DataError, match=r"images\.npy cannot be read"):
        Prepared.open(tmp_path)
