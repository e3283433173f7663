"""From a prepared folder to a source: the asked-for rows, in the asked-for order, with their own annotation."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.core.errors import ConfigError, DataError
from apatite.core.rng import generator
from apatite.ct.region import RegionConfig
from apatite.data.batches import Batches, RegionSource, VolumeSource
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
        cut = source.crop(case, generator(0), labelled=True)
        target = cut.target
        assert np.median(cut.image_hu) == 100 * number
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
    cut = source.crop(0, generator(0), labelled=True)
    assert cut.image_hu.shape == SHAPE
    assert np.median(cut.image_hu) == 200
    assert cut.target is not None
    assert cut.target.shape == (2, *SHAPE)


def test_sizes_are_those_of_the_prepared_grids(tmp_path):
    config = PrepareConfig(kind="volume", spacing_mm=(0.5, 1.0, 2.0), least_shape=SHAPE)
    assert prepare(cohort(tmp_path / "raw"), tmp_path / "out", config).failures == ()
    prepared = Prepared.open(tmp_path / "out")
    source = open_source(prepared, [1, 0], SHAPE)
    assert source.sizes is not None
    for place, row in enumerate((1, 0)):
        depth, height, width = prepared.grid(row).shape
        assert source.sizes.edges[place].tolist() == [depth, height, width]
        assert source.sizes.extent_mm[place].tolist() == [2.0 * depth, 1.0 * height, 0.5 * width]
    assert not source.shows_whole_volumes


def test_a_region_is_all_that_is_known_of_its_volume(region):
    source = open_source(region, [2, 0], None)
    assert source.shows_whole_volumes
    assert source.sizes is not None
    assert source.sizes.edges.tolist() == [list(SHAPE)] * 2
    assert source.sizes.extent_mm.tolist() == [list(map(float, SHAPE))] * 2
    places = Batches(source, 2, 0, labelled=False)(0).places
    assert places is not None
    corners = [[d, h, w] for d in (0, 1) for h in (0, 1) for w in (0, 1)]
    assert places.points.tolist() == [[[0.5, 0.5, 0.5], *corners]] * 2


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
