"""Nine points of a crop, in the order of the crop as seen; a marked voxel is found where they say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apatite.core.rng import generator
from apatite.data.augment import AugmentConfig
from apatite.data.augmented import augment_places
from apatite.data.batches import VolumeSource
from apatite.data.places import CropPlaces, VolumeSizes

ONE = VolumeSizes.of([(8, 10, 20), (4, 5, 6)], [(0.5, 2.0, 3.0), (1.0, 1.0, 1.0)])


def test_points_by_hand():
    places = ONE.places([0], [(2, 1, 5)], (4, 5, 10))
    # Depth from 2 to 6 of 8, height from 1 to 6 of 10, width from 5 to 15 of 20.
    assert places.points[0].tolist() == [
        pytest.approx(point)
        for point in (
            (0.5, 0.35, 0.5),
            (0.25, 0.1, 0.25),
            (0.25, 0.1, 0.75),
            (0.25, 0.6, 0.25),
            (0.25, 0.6, 0.75),
            (0.75, 0.1, 0.25),
            (0.75, 0.1, 0.75),
            (0.75, 0.6, 0.25),
            (0.75, 0.6, 0.75),
        )
    ]
    assert places.extent_mm.tolist() == [[24.0, 20.0, 10.0]]


def test_each_crop_is_placed_in_its_own_volume():
    both = ONE.places([1, 0, 1], [(0, 1, 2), (4, 5, 10), (1, 0, 0)], (3, 4, 4))
    alone = [
        ONE.places([case], [start], (3, 4, 4)) for case, start in ((1, (0, 1, 2)), (0, (4, 5, 10)), (1, (1, 0, 0)))
    ]
    assert torch.equal(both.points, torch.cat([place.points for place in alone]))
    assert both.extent_mm.tolist() == [[4, 5, 6], [24, 20, 10], [4, 5, 6]]
    assert both.points.dtype == both.extent_mm.dtype == torch.float32


def test_only_mirrored_crops_change_and_keep_the_order_of_their_corners():
    places = ONE.places([0, 0], [(2, 1, 3), (2, 1, 3)], (4, 5, 10))
    after = places.mirrored(torch.tensor([False, True]))
    assert torch.equal(after.points[0], places.points[0])
    # Width from 3 to 13 of 20 becomes from 7 to 17; a crop that starts there has the same points.
    torch.testing.assert_close(after.points[1], ONE.places([0], [(2, 1, 7)], (4, 5, 10)).points[0])
    torch.testing.assert_close(after.mirrored(torch.tensor([False, True])).points, places.points)
    assert torch.equal(after.extent_mm, places.extent_mm)


def map_of(linear: np.ndarray, shift: tuple[float, float, float]) -> np.ndarray:
    return np.concatenate([linear, np.array(shift)[:, None]], axis=1)[None]


def test_moved_points_by_hand():
    places = ONE.places([0], [(2, 1, 5)], (4, 4, 10))
    # Along i the new crop shows half the width, from the middle to the far end.
    half = places.moved(map_of(np.diag([0.5, 1.0, 1.0]), (0.5, 0.0, 0.0)))
    torch.testing.assert_close(half.points, ONE.places([0], [(2, 1, 10)], (4, 4, 5)).points)
    # Along k the old crop's depth of 4 is left behind: what is shown lies one crop further.
    beyond = places.moved(map_of(np.eye(3), (0.0, 0.0, 2.0)))
    torch.testing.assert_close(beyond.points, ONE.places([0], [(6, 1, 5)], (4, 4, 10)).points)
    # Depth shows height: going along k in the new crop goes along j in the old one.
    swapped = places.moved(map_of(np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]), (0.0, 0.0, 0.0)))
    torch.testing.assert_close(swapped.points[0, 2], places.points[0, 2])
    torch.testing.assert_close(swapped.points[0, 3], places.points[0, 5])
    torch.testing.assert_close(swapped.points[0, 5], places.points[0, 3])


def test_a_list_of_spacings_must_be_as_long_as_the_cases():
    with pytest.raises(ValueError, match="zip"):
        VolumeSizes.of([(2, 3, 4), (3, 4, 5)], [(1.0, 1.0, 1.0)])


edge = st.integers(1, 7)


@given(crop=st.tuples(edge, edge, edge), more=st.tuples(edge, edge, edge), seed=st.integers(0, 99), data=st.data())
def test_a_marked_voxel_is_found_where_the_points_say(crop, more, seed, data):
    """Its fraction of the volume is known; where the crop shows it, the points must say the same, also mirrored."""
    shape = tuple(one + other for one, other in zip(crop, more, strict=True))
    numbers = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    source = VolumeSource([numbers], [None], ["a"], np.ones((1, 1), bool), crop, spacings_mm=[(1.0, 2.0, 3.0)])
    cut = source.crop(0, generator(seed), labelled=False)
    assert source.sizes is not None
    places = source.sizes.places([0], [cut.start], crop)
    seen_at = tuple(data.draw(st.integers(0, size - 1)) for size in crop)
    for is_mirrored in (False, True):
        image = cut.image_hu.flip(-1) if is_mirrored else cut.image_hu
        marked = np.unravel_index(int(image[seen_at]), shape)
        wanted = (np.array(marked) + 0.5) / shape
        if is_mirrored:
            wanted[2] = 1 - wanted[2]
        points = places.mirrored(torch.tensor([is_mirrored])).points[0].double().numpy()
        share = (np.array(seen_at) + 0.5) / crop
        said = points[1] + share @ (points[[5, 3, 2]] - points[1])
        np.testing.assert_allclose(said, wanted, atol=1e-5)
        np.testing.assert_allclose(points[0], points[1:].mean(axis=0), atol=1e-5)


def test_places_follow_the_draws_of_their_own_samples():
    config = AugmentConfig(flip_probability=0.5)
    places = ONE.places([0] * 4, [(2, 1, 5)] * 4, (4, 5, 10))
    whole = augment_places(places, (4, 5, 10), config, 1, 2, range(4))
    last = CropPlaces(points=places.points[2:], extent_mm=places.extent_mm[2:])
    assert torch.equal(augment_places(last, (4, 5, 10), config, 1, 2, range(2, 4)).points, whole.points[2:])
    assert not torch.equal(augment_places(places, (4, 5, 10), config, 1, 3, range(4)).points, whole.points)
