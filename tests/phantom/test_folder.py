import json

import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.io.manifest import manifest_digest, read_manifest
from apatite.io.nifti import read_label, read_scan
from apatite.phantom.cohort import CohortConfig, make_patient
from apatite.phantom.folder import write_cohort, write_patient


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("cohort") / "made"
    write_cohort(CohortConfig(patients=2, seed=21), target)
    return target


def _bytes(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_two_workers_write_the_same_bytes_as_one(folder, tmp_path):
    write_cohort(CohortConfig(patients=2, seed=21), tmp_path / "again", workers=2)
    assert _bytes(tmp_path / "again") == _bytes(folder)


def test_order_does_not_matter(folder, tmp_path):
    config = CohortConfig(patients=2, seed=21)
    for number in (1, 0):
        write_patient(config, number, tmp_path)
    made = _bytes(tmp_path)
    assert made == {name: content for name, content in _bytes(folder).items() if name in made}


def test_what_is_written_reads_back(folder):
    manifest = read_manifest(folder / "manifest.csv")
    assert manifest.label_names == {1: "calcium"}
    assert json.loads((folder / "cohort.json").read_text())["version"] == "phantom-1"
    made = {
        series.case_id: series
        for number in (0, 1)
        for series in make_patient(CohortConfig(patients=2, seed=21), number)
    }
    assert set(made) == {case.case_id for case in manifest.cases}
    for case in manifest.cases:
        series = made[case.case_id]
        scan = read_scan(folder / case.image, case.case_id)
        assert np.array_equal(scan.voxels_hu, series.acquisition.scan.voxels_hu) and scan.voxels_hu.dtype == np.int16
        np.testing.assert_allclose(scan.stack.origins_ras_mm, series.acquisition.scan.stack.origins_ras_mm, atol=1e-3)
        np.testing.assert_allclose(scan.stack.thickness_mm, series.acquisition.scan.stack.thickness_mm, atol=1e-3)
        assert np.array_equal(read_label(folder / case.label, scan.stack) == 1, series.is_calcium)
        truth = read_label((folder / case.truth).with_suffix(".nii.gz"), scan.stack)
        assert np.array_equal((truth & 8) > 0, series.readers[0]) and np.array_equal(
            (truth & 16) > 0, series.readers[1]
        )
        assert case.domain == "phantom" and case.split == "" and case.region_centre_ras_mm is not None


def test_labels_of_a_reader_change_the_labels_alone(folder, tmp_path):
    """Same scans and truth, byte for byte; the label files are the first reader's, under another name."""
    config = CohortConfig(patients=2, seed=21)
    manifest = write_cohort(config, tmp_path / "read", labels="reader")
    read, perfect = _bytes(tmp_path / "read"), _bytes(folder)
    shared = {name for name in perfect if name.split("/")[0] in ("scans", "truth")}
    assert shared and {name: read[name] for name in shared} == {name: perfect[name] for name in shared}
    assert not (tmp_path / "read" / "labels").exists()
    assert json.loads(read["cohort.json"])["labels"] == "reader"
    assert json.loads(perfect["cohort.json"])["labels"] == "perfect"
    differing = 0
    for case in read_manifest(tmp_path / "read" / "manifest.csv").cases:
        stack = read_scan(tmp_path / "read" / case.image).stack
        truth = read_label((tmp_path / "read" / case.truth).with_suffix(".nii.gz"), stack)
        found = read_label(tmp_path / "read" / case.label, stack, case.case_id)
        assert np.array_equal(found == 1, (truth & 8) > 0)
        differing += not np.array_equal(found, read_label(folder / "labels" / f"{case.case_id}.nii.gz", stack))
    assert differing > 0
    # Two manifests of the same scans must not pass for one.
    assert manifest_digest(manifest) != manifest_digest(read_manifest(folder / "manifest.csv"))


def test_a_folder_that_holds_something_is_refused_and_an_empty_one_is_used(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something"):
        write_cohort(CohortConfig(patients=1), tmp_path / "full")
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"
