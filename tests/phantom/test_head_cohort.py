import csv
import json

import numpy as np
import pydicom
import pytest

from apatite.core.errors import DataError
from apatite.io.dicom.reading import read_folder
from apatite.phantom import head_cohort
from apatite.phantom.cohort import CohortConfig
from apatite.phantom.head_cohort import MAKERS, write_head_cohort
from apatite.phantom.protocol import VENDORS

CONFIG = CohortConfig(patients=2, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two patients on a tiny matrix, one of them with a second kernel."""
    patch = pytest.MonkeyPatch()
    patch.setattr(head_cohort, "MATRIX", {"small": 64, "paper": 64})
    patch.setattr(head_cohort, "BONE_SHARE", 1.0)
    patch.setattr(head_cohort, "_draw_protocol", _coarse(head_cohort._draw_protocol))
    target = tmp_path_factory.mktemp("heads") / "made"
    write_head_cohort(CONFIG, target)
    patch.undo()
    return target


def _coarse(draw):
    def drawn(rng, vendor, matrix):
        return head_cohort.replace(draw(rng, vendor, matrix), thickness_mm=6.0, spacing_mm=6.5)

    return drawn


def _rows(folder):
    return list(csv.DictReader((folder / "truth.csv").read_text().splitlines()))


def test_every_series_has_its_truth(folder):
    rows = _rows(folder)
    assert [row["case_id"] for row in rows] == [f"PHANTOM-000{n}-s0{s}" for n in (0, 1) for s in (1, 2)]
    assert json.loads((folder / "cohort.json").read_text())["series"] == 4
    for row in rows:
        files = sorted((folder / row["folder"]).iterdir())
        assert len(files) == int(row["slices"])
        dataset = pydicom.dcmread(files[0])
        assert dataset.SeriesInstanceUID == row["series_uid"] and dataset.Rows == 64
        truth = json.loads((folder / "truth" / f"{row['case_id']}.json").read_text())
        assert truth["version"] == "head-1" and np.linalg.det(np.array(truth["mni_to_ras"])[:3, :3]) > 0
        assert sum(p["volume_mm3"] for p in truth["plaques"] if p["side"] == "right") == pytest.approx(
            float(row["true_right_mm3"]), abs=0.01
        )


def test_the_package_reads_every_series(folder):
    for row in _rows(folder):
        scan = read_folder(folder / row["folder"]).scan
        assert scan.stack.shape == (int(row["slices"]), 64, 64)
        assert scan.is_padding is None or scan.is_padding[:, 0, 0].all()
        assert scan.voxels_hu.min() >= -1024 and scan.voxels_hu.max() > 500


def test_every_vendor_has_a_maker():
    assert set(MAKERS) == set(VENDORS)
    assert all("simulated" in maker.name and set(maker.kernels) == {"soft", "bone"} for maker in MAKERS.values())


def test_a_folder_that_holds_something_is_refused(folder):
    with pytest.raises(DataError, match="holds something"):
        write_head_cohort(CONFIG, folder)
