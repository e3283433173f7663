"""Magnetic resonance is prepared in standard deviations, and the folder says so."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.core.scan import PADDING_HU
from apatite.ct.region import RegionConfig
from apatite.data.prepare import PrepareConfig, prepare
from apatite.io.manifest import Case, Manifest
from apatite.io.store import Prepared

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two scans of one object; the second scanner's numbers are 7 times as large."""
    voxels = np.random.default_rng(0).gamma(6.0, 20.0, (12, 10, 8))
    for number, gain in enumerate((1, 7)):
        nib.save(nib.Nifti1Image((gain * np.rint(voxels)).astype(np.int16), AFFINE), tmp_path / f"i{number}.nii.gz")
    label = (voxels > 150).astype(np.uint8)
    nib.save(nib.Nifti1Image(label, AFFINE), tmp_path / "l.nii.gz")
    cases = tuple(
        Case(case_id=f"c{number}", patient_id="p", image=f"i{number}.nii.gz", label="l.nii.gz", split="finetune")
        for number in range(2)
    )
    return Manifest(root=tmp_path, cases=cases, label_names={1: "myocardium"})


def config(**changes) -> PrepareConfig:
    plain = PrepareConfig(kind="volume", spacing_mm=(1.0, 1.5, 2.0), least_shape=(10, 10, 12), intensity="zscore")
    return PrepareConfig(**(vars(plain) | changes))


def test_two_scanners_give_the_same_image(manifest, tmp_path):
    prepare(manifest, tmp_path / "out", config(body_hu=-1024.0))
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.intensity == "zscore"
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["config"]["intensity"] == "zscore"
    first, second = (np.asarray(prepared.volume(f"c{number}").image[:]) for number in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (10, 10, 12)
    # The middle of the ten slices is the scan, at its own spacing; the first and the last show nothing.
    assert np.all(first[[0, -1]] == PADDING_HU)
    values = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "i0.nii.gz").dataobj).T.astype(float)
    counted = values[values != 0]
    np.testing.assert_allclose(first[1:-1], 256 * (values - counted.mean()) / counted.std(), atol=0.51)


def test_regions_as_well(manifest, tmp_path):
    region = RegionConfig(shape=(6, 8, 10), spacing_mm=(1.0, 1.5, 2.0))
    prepare(manifest, tmp_path / "out", config(kind="region", region=region))
    prepared = Prepared.open(tmp_path / "out")
    np.testing.assert_array_equal(prepared.images[0], prepared.images[1])
    assert abs(float(prepared.images[0].mean())) < 60


def test_ct_stays_in_hu_and_older_folders_are_ct(manifest, tmp_path):
    prepare(manifest, tmp_path / "out", config(intensity="hu", body_hu=-1024.0))
    file = tmp_path / "out" / "prepared.json"
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.intensity == "hu"
    assert int(np.asarray(prepared.volume("c1").image[:]).max()) > 7 * 150
    about = json.loads(file.read_text())
    del about["config"]["intensity"]
    file.write_text(json.dumps(about))
    assert Prepared.open(tmp_path / "out").intensity == "hu"
    about["config"]["intensity"] = "suv"
    file.write_text(json.dumps(about))
    with pytest.raises(DataError, match="counted in 'suv'"):
        _ = Prepared.open(tmp_path / "out").intensity


def test_a_flat_image_is_left_out_by_name(manifest, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8), np.int16), AFFINE), tmp_path / "i1.nii.gz")
    result = prepare(manifest, tmp_path / "out", config())
    assert [(bad["case_id"], bad["code"]) for bad in result.failures] == [("c1", "FLAT")]


def test_calcium_needs_hu(manifest, tmp_path):
    calcium = Manifest(root=manifest.root, cases=manifest.cases, label_names={1: "calcium"})
    with pytest.raises(ConfigError, match="calcium is defined by Hounsfield units"):
        prepare(calcium, tmp_path / "out", config())
    assert not (tmp_path / "out").exists()
