"""One channel of four, and never another one."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.io.channels import read_channel, with_channel
from apatite.io.manifest import Case, Manifest
from apatite.io.nifti import read_volume

CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")
SHAPE = (5, 4, 3, 4)
AFFINE = np.array([[-1.0, 0, 0, 9], [0, 2, 0, -4], [0, 0, 3, 5], [0, 0, 0, 1]])


def voxels_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 900, SHAPE).astype(np.int16)


@pytest.fixture
def manifest(tmp_path: Path, write_image) -> Manifest:
    for number in range(2):
        write_image(f"raw/imagesTr/B{number}.nii.gz", voxels=voxels_of(number), affine=AFFINE)
    cases = tuple(
        Case(case_id=f"b{number}", patient_id=f"b{number}", image=f"imagesTr/B{number}.nii.gz", split=split)
        for number, split in enumerate(("finetune", "unused"))
    )
    return Manifest(root=tmp_path / "raw", cases=cases, label_names={})


@pytest.mark.parametrize("channel", CHANNELS)
def test_each_channel_is_itself(manifest, tmp_path, channel):
    found = with_channel(manifest, CHANNELS, channel, tmp_path / "study" / "m.csv")
    for number, case in enumerate(found.cases):
        assert case.image == f"../study/m.{channel.lower()}/b{number}.nii.gz"
        volume = read_volume(found.image_path(case))
        np.testing.assert_array_equal(volume.voxels, voxels_of(number)[..., CHANNELS.index(channel)].T)
        np.testing.assert_array_equal(volume.grid.ijk_to_ras, AFFINE)
        assert volume.voxels.dtype == np.int16


@pytest.mark.parametrize(("channel", "fix"), [("", "FLAIR, T1w, t1gd, T2w"), ("T1W", "T1w"), ("../x", "choose one of")])
def test_a_channel_must_be_named(manifest, tmp_path, channel, fix):
    with pytest.raises(ConfigError, match="channel") as caught:
        with_channel(manifest, CHANNELS, channel, tmp_path / "m.csv")
    assert fix in caught.value.fix
    assert not (tmp_path / "m.csv").exists()


def test_scaled_values_are_scaled(tmp_path):
    image = nib.Nifti1Image(voxels_of(3), AFFINE)
    image.header.set_slope_inter(0.5, -20.0)
    nib.save(image, tmp_path / "s.nii")
    stored = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "s.nii").dataobj)
    np.testing.assert_allclose(read_channel(tmp_path / "s.nii", 2, 4, "s").voxels, stored[..., 2].T)


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 3), (5, 4, 3, 1, 4)])
def test_another_number_of_channels_is_refused(write_image, shape):
    path = write_image("x.nii.gz", shape=shape)
    with pytest.raises(DataError, match="4 channels") as caught:
        read_channel(path, 0, 4, "x")
    assert caught.value.code == "NOT_3D"


def test_damaged_files_are_named(manifest, tmp_path):
    path = manifest.image_path(manifest.cases[0])
    whole = path.read_bytes()
    (tmp_path / "not.nii.gz").write_bytes(gzip.compress(b"x" * 900))
    (tmp_path / "tiny.nii").write_bytes(b"no image")
    (tmp_path / "short.nii").write_bytes(gzip.decompress(whole)[:-40])
    (tmp_path / "short.nii.gz").write_bytes(whole[:-60])
    codes = {}
    for name in ("not.nii.gz", "tiny.nii", "short.nii", "short.nii.gz", "gone.nii.gz"):
        with pytest.raises(DataError, match="c9") as caught:
            read_channel(tmp_path / name, 3, 4, "c9")
        codes[name] = caught.value.code
    assert codes == {
        "not.nii.gz": "NOT_NIFTI",
        "tiny.nii": "NOT_NIFTI",
        "short.nii": "TRUNCATED",
        "short.nii.gz": "TRUNCATED",
        "gone.nii.gz": "MISSING_FILE",
    }


def test_no_orientation_and_no_unit_is_guessed(tmp_path):
    image = nib.Nifti1Image(voxels_of(0), None)
    image.header.set_qform(None, code=0)
    image.header.set_sform(None, code=0)
    nib.save(image, tmp_path / "o.nii")
    with pytest.raises(DataError, match="neither sform nor qform"):
        read_channel(tmp_path / "o.nii", 0, 4, "o")
    image = nib.Nifti1Image(voxels_of(0), AFFINE)
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "m.nii")
    with pytest.raises(DataError, match="another unit"):
        read_channel(tmp_path / "m.nii", 0, 4, "m")
