"""The batch of a step depends on the step alone; a crop holds what it was asked to hold."""

from collections import Counter

import numpy as np
import pytest
import torch

from apatite.core.errors import ConfigError, DataError
from apatite.core.rng import generator
from apatite.core.share import Share
from apatite.data.batches import Batch, Batches, RegionSource, VolumeSource

CROP = (3, 4, 5)
SPACINGS_MM = [(0.5, 2.0, 3.0), (1.0, 1.5, 4.0)]
"""Along i (width), j (height), k (depth)."""


@pytest.fixture
def regions() -> RegionSource:
    """Seven regions whose voxels all say which case they are, and label fractions that say case and label."""
    images = np.broadcast_to(np.arange(7, dtype=np.int16)[:, None, None, None], (7, 2, 3, 4)).copy()
    fractions = np.zeros((7, 2, 2, 3, 4), np.uint8)
    fractions[:, 0], fractions[:, 1] = 255, 51
    fractions *= (np.arange(7) != 3)[:, None, None, None, None]
    is_annotated = np.array([[True, case % 2 == 0] for case in range(7)])
    return RegionSource(images, fractions, [f"c{case}" for case in range(7)], is_annotated)


def volumes(foreground_share: float = 0.7, labelled: bool = True, is_last_alone: bool = False) -> VolumeSource:
    """Two volumes of unequal edges; each voxel holds its own flat index. Label 2 is one far voxel, label 1 a box."""
    shapes = [(6, 9, 11), (5, 8, 13)]
    images = [np.arange(np.prod(shape)).reshape(shape).astype(np.int16) for shape in shapes]
    labels = [np.zeros(shape, np.uint8) for shape in shapes]
    labels[0][5, 0, 10] = 2
    labels[1][1:3, 2:4, 3:6] = 1
    labels[1][0, 7, 12] = 2
    is_annotated = np.array([[True, True], [True, False]])
    if not labelled:
        labels = [None, None]
    if is_last_alone:
        labels = [None, labels[1]]
    source = VolumeSource(images, labels, ["a", "b"], is_annotated, CROP, spacings_mm=SPACINGS_MM)
    source.foreground_share = foreground_share
    return source


def equal(one: Batch, other: Batch) -> bool:
    same = one.case_ids == other.case_ids and torch.equal(one.images_hu, other.images_hu)
    for name in ("targets", "is_annotated"):
        first, second = getattr(one, name), getattr(other, name)
        same &= (first is None and second is None) or torch.equal(first, second)
    if one.places is None or other.places is None:
        return same and one.places is other.places
    return same and all(torch.equal(getattr(one.places, n), getattr(other.places, n)) for n in ("points", "extent_mm"))


@pytest.mark.parametrize("labelled", [True, False])
def test_a_step_is_the_same_batch_in_any_order_and_in_any_process(labelled):
    first = Batches(volumes(), 3, seed=5, labelled=labelled)
    forwards = [first(step) for step in range(6)]
    again = Batches(volumes(), 3, seed=5, labelled=labelled)
    for step in (4, 0, 5, 2, 4):
        assert equal(again(step), forwards[step]), step
    other = Batches(volumes(), 3, seed=6, labelled=labelled)
    assert not all(equal(other(step), forwards[step]) for step in range(6))


@pytest.mark.parametrize("batch", [1, 3, 7, 10])
def test_every_epoch_is_a_permutation_and_each_its_own(regions, batch):
    draw = Batches(regions, batch, seed=1, labelled=False)
    seen = [case_id for step in range(70 // batch) for case_id in draw(step).case_ids]
    epochs = [tuple(seen[start : start + 7]) for start in range(0, len(seen) - 6, 7)]
    assert len(epochs) >= 9
    assert all(sorted(epoch) == [f"c{case}" for case in range(7)] for epoch in epochs)
    assert len(set(epochs)) > 7


def test_the_order_does_not_depend_on_the_batch(regions):
    ones, threes = (Batches(regions, batch, 1, labelled=False) for batch in (1, 3))
    assert [threes(step).case_ids[b] for step in range(5) for b in range(3)] == [
        ones(step).case_ids[0] for step in range(15)
    ]


def test_image_target_and_annotation_belong_to_the_case_that_is_named(regions):
    batch = Batches(regions, 7, seed=2, labelled=True)(0)
    assert batch.images_hu.shape == (7, 1, 2, 3, 4)
    assert batch.targets is not None
    assert batch.is_annotated is not None
    for sample, case_id in enumerate(batch.case_ids):
        case = int(case_id[1:])
        assert (batch.images_hu[sample] == case).all()
        wanted = [0.0, 0.0] if case == 3 else [1.0, 0.2]
        assert batch.targets[sample].amax(dim=(1, 2, 3)).tolist() == pytest.approx(wanted)
        assert batch.targets[sample].amin(dim=(1, 2, 3)).tolist() == pytest.approx(wanted)
        assert batch.is_annotated[sample].tolist() == [True, case % 2 == 0]


def test_without_labels_nothing_is_said_about_them(regions):
    batch = Batches(regions, 2, seed=2, labelled=False)(0)
    assert batch.targets is None
    assert batch.is_annotated is None


def test_samples_of_a_step_are_cropped_independently():
    batch = Batches(volumes(), 12, seed=0, labelled=False)(0)
    assert len({int(image[0, 0, 0, 0]) for image in batch.images_hu}) > 3


def test_a_case_is_cropped_anew_at_every_step():
    draw = Batches(volumes(), 1, seed=0, labelled=False)
    assert len({int(draw(step).images_hu[0, 0, 0, 0, 0]) for step in range(8)}) > 4


def test_a_crop_shows_image_and_label_of_the_same_place():
    source = volumes()
    for number in range(40):
        cut = source.crop(1, generator(0, number), labelled=True)
        image, target = cut.image_hu, cut.target
        assert image.shape == CROP
        assert target is not None
        start = np.unravel_index(int(image[0, 0, 0]), source.images[1].shape)
        assert cut.start == start
        place = tuple(slice(s, s + edge) for s, edge in zip(start, CROP, strict=True))
        np.testing.assert_array_equal(image, source.images[1][place])
        label = source.labels[1]
        assert label is not None
        np.testing.assert_array_equal(target[0], label[place] == 1)
        np.testing.assert_array_equal(target[1], label[place] == 2)


def test_foreground_crops_hold_an_annotated_label_at_every_place_of_the_crop():
    """Always centred on it, a network would learn that calcium lies in the middle."""
    source = volumes(foreground_share=1.0)
    offsets = Counter()
    for number in range(300):
        target = source.crop(1, generator(3, number), labelled=True).target
        assert target is not None
        assert target[0].any(), "label 2 was not looked for in case b, so label 1 must be in the crop"
        offsets[tuple(target[0].nonzero()[0].tolist())] += 1
    # First labelled voxel at (1, 2, 3) of (5, 8, 13): starts 0…1 × 0…2 × 0…3 and more, where the box is cut.
    assert len(offsets) > 10
    assert max(offsets.values()) < 150


def test_a_rare_label_in_a_corner_is_still_reached():
    source = volumes(foreground_share=1.0)
    for number in range(30):
        target = source.crop(0, generator(4, number), labelled=True).target
        assert target is not None
        assert target[1].sum() == 1


def test_the_share_of_foreground_crops():
    source = volumes(foreground_share=0.5)
    hits = sum(bool(source.crop(0, generator(5, number), labelled=True).target.any()) for number in range(400))  # type: ignore[union-attr]
    # A random crop holds the corner voxel with 1/4 · 1/6 · 1/7, so about 0.5 of all crops hold it.
    assert 160 < hits < 245


def test_random_crops_reach_every_start():
    source = volumes()
    starts = {int(source.crop(0, generator(6, number), labelled=False).image_hu[0, 0, 0]) for number in range(2000)}
    assert len(starts) == 4 * 6 * 7


@pytest.mark.parametrize("labelled", [True, False])
def test_a_batch_says_where_its_crops_lie_in_their_own_volumes(labelled):
    source = volumes()
    batch = Batches(source, 12, seed=3, labelled=labelled)(0)
    assert batch.places is not None
    assert set(batch.case_ids) == {"a", "b"}
    for case_id, image, points, extent_mm in zip(
        batch.case_ids, batch.images_hu[:, 0], batch.places.points, batch.places.extent_mm, strict=True
    ):
        shape = source.images["ab".index(case_id)].shape
        # By hand: 6 slices of 3 mm, 9 rows of 2 mm, 11 columns of 0.5 mm; 5 of 4 mm, 8 of 1.5 mm, 13 of 1 mm.
        assert extent_mm.tolist() == ([18.0, 18.0, 5.5] if case_id == "a" else [20.0, 12.0, 13.0])
        first, last = (np.unravel_index(int(image.flatten()[place]), shape) for place in (0, -1))
        low, high = points[1] * torch.tensor(shape), points[8] * torch.tensor(shape)
        np.testing.assert_allclose(low, first, atol=1e-5)
        np.testing.assert_allclose(high, np.add(last, 1), atol=1e-5)
        np.testing.assert_allclose(points[0], (points[1] + points[8]) / 2, atol=1e-6)


def test_asking_for_places_changes_no_crop():
    source = volumes()
    silent = volumes()
    silent.sizes = None
    for step in range(4):
        with_places, without = (Batches(given, 3, seed=5, labelled=True)(step) for given in (source, silent))
        assert torch.equal(with_places.images_hu, without.images_hu)
        assert torch.equal(with_places.targets, without.targets)  # type: ignore[arg-type]
        assert without.places is None


def test_a_batch_that_moves_to_a_device_takes_its_places_along():
    there = Batches(volumes(), 2, seed=5, labelled=False)(0).to("meta")
    assert there.places is not None
    assert there.places.points.device.type == there.places.extent_mm.device.type == "meta"


def test_a_source_knows_whether_all_its_crops_are_whole_volumes(regions):
    assert regions.shows_whole_volumes
    assert not volumes().shows_whole_volumes
    exact, larger = np.zeros(CROP, np.int16), np.zeros((3, 4, 6), np.int16)
    for images, is_whole in (([exact, exact], True), ([exact, larger], False)):
        source = VolumeSource(images, [None, None], ["a", "b"], np.ones((2, 1), bool), CROP)
        assert source.shows_whole_volumes is is_whole


@pytest.mark.parametrize("labelled_part", ["none", "one"])
def test_a_case_without_a_label_map_has_an_empty_target_in_its_own_place(labelled_part):
    source = volumes(foreground_share=1.0, labelled=labelled_part == "one", is_last_alone=labelled_part == "one")
    batch = Batches(source, 4, seed=0, labelled=True)(0)
    assert batch.targets is not None
    for case_id, target in zip(batch.case_ids, batch.targets, strict=True):
        assert bool(target.any()) == (labelled_part == "one" and case_id == "b")


def test_a_volume_smaller_than_the_crop_is_named():
    with pytest.raises(DataError, match="b: the volume"):
        VolumeSource(
            [np.zeros((4, 4, 5), np.int16), np.zeros((3, 3, 9), np.int16)],
            [None, None],
            ["a", "b"],
            np.ones((2, 1), bool),
            CROP,
        )


@pytest.mark.parametrize("labelled", [True, False])
def test_the_shares_of_two_processes_make_up_the_batch_of_one(labelled):
    whole = Batches(volumes(), 6, seed=5, labelled=labelled)
    parts = [Batches(volumes(), 6, seed=5, labelled=labelled, share=Share(index=i, of=3)) for i in range(3)]
    for step in range(4):
        made = [part(step) for part in parts]
        assert [list(part.sample_ids) for part in made] == [[0, 1], [2, 3], [4, 5]]
        assert sum((part.case_ids for part in made), ()) == whole(step).case_ids
        assert torch.equal(torch.cat([part.images_hu for part in made]), whole(step).images_hu)
        if labelled:
            assert torch.equal(torch.cat([part.targets for part in made]), whole(step).targets)  # type: ignore[arg-type]
        places = whole(step).places
        assert places is not None
        assert torch.equal(torch.cat([part.places.points for part in made]), places.points)  # type: ignore[union-attr]
        assert torch.equal(torch.cat([part.places.extent_mm for part in made]), places.extent_mm)  # type: ignore[union-attr]


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(ConfigError, match="multiple of 4"):
        Batches(volumes(), 6, seed=5, labelled=False, share=Share(index=0, of=4))


def test_a_read_only_array_is_held_all_the_same(regions):
    images = np.zeros((2, 3, 4, 5), np.int16)
    images.flags.writeable = False
    assert RegionSource(images, None, ["a", "b"], np.ones((2, 1), bool)).images.shape == (2, 3, 4, 5)


def test_no_case_and_no_sample_are_refused(regions):
    with pytest.raises(DataError, match="EMPTY_SPLIT"):
        Batches(RegionSource(np.zeros((0, 2, 3, 4), np.int16), None, [], np.ones((0, 1), bool)), 2, 0, labelled=False)
    with pytest.raises(ConfigError, match="batch of 0"):
        Batches(regions, 0, seed=0, labelled=False)
