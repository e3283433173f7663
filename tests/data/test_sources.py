"""From a prepared folder to a source: the asked-for rows, in the asked-for order, with their own annotation."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.core.rng import generator
from apatite.ct.region import RegionConfig
from apatite.data.batches import RegionSource, VolumeSource
from apatite.data.prepare import PrepareConfig, prepare
from apatite.data.sources import crop_of, open_source
from apatite.io.manifest import Case, Manifest
from apatite.io.store import Prepared

SHAPE = (4, 6, 8)


def cohort(folder: Path) -> Manifest:
    """Three cases at a HU of their own; label 2 is a slab, thicker in later ones.

    Case c1 has no label file, c2 only label 2 annotated.
    """
    folder.mkdir()
    cases = []
    for number in range(3):
        voxels = np.full((16, 14, 10), 100 * number, np.int16)
        voxels[0, 0, 0] = number  # no two images have the same bytes
        label = np.zeros(voxels.shape, np.uint8)
        label[:, :, 4 : 6 + number] = 2
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"i{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"l{number}.nii.gz")
        cases.append(
            Case(
                case_id=f"c{number}",
                patient_id=f"p{number}",
                image=f"i{number}.nii.gz",
                label="" if number == 1 else f"l{number}.nii.gz",
                annotated_labels=(2,) if number == 2 else (),
                split="pretrain" if number == 1 else "finetune",
                region_centre_ras_mm=(7.5, 6.5, 4.5),
            )
        )
    return Manifest(root=folder, cases=tuple(cases), label_names={2: "calcium", 5: "bone"})


@pytest.fixture(scope="module")
def region(tmp_path_factory) -> Prepared:
    folder = tmp_path_factory.mktemp("region")
    config = PrepareConfig(region=RegionConfig(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0)))
    assert prepare(cohort(folder / "raw"), folder / "out", config).failures == ()
    return Prepared.open(folder / "out")


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Prepared:
    folder = tmp_path_factory.mktemp("volume")
    config = PrepareConfig(kind="volume", spacing_mm=(1.0, 1.0, 1.0), least_shape=SHAPE)
    assert prepare(cohort(folder / "raw"), folder / "out", config).failures == ()
    return Prepared.open(folder / "out")


def test_regions_in_the_asked_order(region):
    source = open_source(region, [2, 0], None)
    assert isinstance(source, RegionSource)
    assert source.case_ids == ["c2", "c0"]
    assert source.is_annotated.tolist() == [[True, False], [True, True]]
    for case, number in enumerate((2, 0)):
        image, target = source.crop(case, generator(0), labelled=True)
        assert np.median(image) == 100 * number
        assert target is not None
        assert target.shape == (2, *SHAPE)
        assert 0 < target[0].mean() < 1
        assert target[0].mean() == pytest.approx(region.fractions[number, 0].mean() / 255)
        assert not target[1].any()


def test_regions_are_read_into_memory_and_writable_copies(region):
    source = open_source(region, [0], None)
    assert isinstance(source, RegionSource)
    before = np.array(region.images[0])
    source.images += 1
    np.testing.assert_array_equal(region.images[0], before)


def test_a_crop_given_for_regions_must_be_theirs(region):
    assert open_source(region, [0], SHAPE).case_ids == ["c0"]
    with pytest.raises(ConfigError, match="the prepared regions are"):
        open_source(region, [0], (4, 8, 6))


def test_volumes_in_the_asked_order(volume):
    source = open_source(volume, [2, 1], SHAPE)
    assert isinstance(source, VolumeSource)
    assert source.case_ids == ["c2", "c1"]
    assert source.is_annotated.tolist() == [[True, False], [False, False]]
    assert source.labels[1] is None
    image, target = source.crop(0, generator(0), labelled=True)
    assert image.shape == SHAPE
    assert np.median(image) == 200
    assert target is not None
    assert target.shape == (2, *SHAPE)


def test_volumes_need_a_crop_that_fits(volume):
    with pytest.raises(ConfigError, match="need a crop"):
        open_source(volume, [0], None)
    with pytest.raises(DataError, match="c0: the volume"):
        open_source(volume, [0], (4, 6, 80))


def test_the_input_of_the_network(region, volume):
    assert crop_of(region, None) == SHAPE
    assert crop_of(volume, (4, 4, 8)) == (4, 4, 8)
    with pytest.raises(ConfigError, match="need a crop"):
        crop_of(volume, None)
