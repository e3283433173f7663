"""The synthetic volumes come out of every store as they went in."""

import numpy as np
import pytest

from stores import LABEL_NAMES, crop_places, make_volume, write_memmaps, write_prepared, write_zarr

SHAPE = (24, 40, 36)


@pytest.fixture(scope="module")
def volumes():
    return [make_volume(number, SHAPE) for number in range(2)]


def test_a_volume_has_all_labels_and_noise(volumes):
    for volume in volumes:
        assert volume.image_hu.shape == volume.labels.shape == SHAPE
        assert set(np.unique(volume.labels)) == {0, *LABEL_NAMES}
        # Neighbouring slices share no noise, or a codec would find more than there is in a scan.
        inside = volume.image_hu[8:14, 16:24, 14:22].astype(float)
        steps = np.diff(inside, axis=0)
        assert 8 < steps[np.abs(steps) < 40].std() < 25


def test_every_store_gives_the_same_crops_back(volumes, tmp_path):
    prepared = write_prepared(tmp_path / "ours", volumes)
    memmaps = write_memmaps(tmp_path / "memmap", volumes)
    zarrs = write_zarr(tmp_path / "zarr", volumes, chunk=16)
    places = crop_places(2, SHAPE, crop=16, count=6)
    assert {number for number, _ in places} == {0, 1}
    for number, place in places:
        expected = volumes[number].image_hu[place]
        assert expected.shape == (16, 16, 16)
        for stored in (prepared.volume(f"c{number}").image, memmaps[number], zarrs[number]):
            assert np.array_equal(stored[place], expected)
    labels = prepared.volume("c1").labels
    assert labels is not None
    assert np.array_equal(labels[:], volumes[1].labels)
