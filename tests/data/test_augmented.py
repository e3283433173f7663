"""Augmentation on top of batches stays a function of the step, and takes image, target and annotation along."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool3d

from apatite.core.scan import PADDING_HU
from apatite.core.share import Share
from apatite.data.augment import IDENTITY, AugmentConfig
from apatite.data.augmented import Augmented
from apatite.data.batches import Batch, Batches, VolumeSource

MIRROR = AugmentConfig(
    flip_probability=0.5,
    mirror_pairs=((1, 2),),
    rotation_deg=0,
    scale=0,
    shift_mm=0,
    thickness_probability=0,
    kernel_probability=0,
    noise_hu=0,
    offset_hu=0,
)


def make(step: int) -> Batch:
    """Four samples with a ramp along width and different annotation of left (1) and right (2)."""
    ramp = torch.arange(6.0).expand(4, 1, 2, 3, 6) + 10 * step
    targets = torch.zeros(4, 3, 2, 3, 6)
    targets[:, 0, ..., 0] = 1
    targets[:, 2, ..., 1] = 1
    is_annotated = torch.tensor([[True, False, True]] * 4)
    return Batch(case_ids=("a", "b", "c", "d"), images_hu=ramp, targets=targets, is_annotated=is_annotated)


def test_mirroring_takes_image_target_and_annotation_along():
    batches = Augmented(make, MIRROR, seed=0)
    seen = set()
    for step in range(6):
        batch = batches(step)
        assert batch.case_ids == ("a", "b", "c", "d")
        assert batch.targets is not None
        assert batch.is_annotated is not None
        for image, target, annotated in zip(batch.images_hu, batch.targets, batch.is_annotated, strict=True):
            is_mirrored = bool(image[0, 0, 0, 0] > image[0, 0, 0, -1])
            seen.add(is_mirrored)
            left, right = (1, 0) if is_mirrored else (0, 1)
            assert annotated.tolist() == ([False, True, True] if is_mirrored else [True, False, True])
            assert bool(target[left].any())
            assert not bool(target[right].any())
            assert target[left][..., -1 if is_mirrored else 0].all()
            assert target[2][..., -2 if is_mirrored else 1].all()
    assert seen == {True, False}


def test_a_step_is_the_same_in_any_order_and_another_seed_is_not():
    config = AugmentConfig()
    forwards = [Augmented(make, config, seed=1)(step).images_hu for step in range(4)]
    again = Augmented(make, config, seed=1)
    for step in (3, 1, 3, 0):
        assert torch.equal(again(step).images_hu, forwards[step])
    assert not torch.equal(Augmented(make, config, seed=2)(0).images_hu, forwards[0])
    # The same batch at another step is augmented anew.
    constant = Augmented(lambda _: make(0), config, seed=1)
    assert not torch.equal(constant(1).images_hu, constant(0).images_hu)


def test_the_shares_of_several_processes_are_augmented_as_the_whole_batch_is():
    def part_of(index: int) -> Augmented:
        """The first or the second half of every batch."""
        samples = slice(2 * index, 2 * index + 2)

        def part(step: int) -> Batch:
            whole = make(step)
            assert whole.targets is not None
            assert whole.is_annotated is not None
            return Batch(
                case_ids=whole.case_ids[samples],
                images_hu=whole.images_hu[samples],
                targets=whole.targets[samples],
                is_annotated=whole.is_annotated[samples],
                first_sample=samples.start,
            )

        return Augmented(part, AugmentConfig(mirror_pairs=((1, 2),)), seed=1)

    for step in range(4):
        whole = Augmented(make, AugmentConfig(mirror_pairs=((1, 2),)), seed=1)(step)
        parts = [part_of(index)(step) for index in range(2)]
        for name in ("images_hu", "targets", "is_annotated"):
            joined = torch.cat([getattr(part, name) for part in parts])
            torch.testing.assert_close(joined, getattr(whole, name), rtol=1e-5, atol=1e-3)


def test_the_identity_and_unlabelled_batches_pass_through():
    def unlabelled(step: int) -> Batch:
        return Batch(case_ids=make(step).case_ids, images_hu=make(step).images_hu)

    batch = Augmented(unlabelled, IDENTITY, seed=0)(3)
    assert torch.equal(batch.images_hu, make(3).images_hu)
    assert batch.targets is None
    assert batch.is_annotated is None


VOLUME = (17, 22, 26)
CROP = (9, 10, 13)
SPACING_MM = (0.8, 1.3, 2.1)
"""Along i (width), j (height), k (depth)."""


def coordinates(axis: int) -> VolumeSource:
    """Volumes whose voxels say their own index along an axis, which linear interpolation leaves exact."""
    ramp = np.broadcast_to(np.expand_dims(np.arange(VOLUME[axis]), tuple({0, 1, 2} - {axis})), VOLUME)
    image, names = ramp.astype(np.int16), ["a", "b"]
    return VolumeSource([image, image], [None, None], names, np.ones((2, 1), bool), CROP, spacings_mm=[SPACING_MM] * 2)


def require_places_of_what_is_shown(config: AugmentConfig) -> set[bool]:
    """At every voxel of the old crop, the points say where in the volume lies what it shows; who was mirrored."""
    shown = [Augmented(Batches(coordinates(axis), 6, 3, labelled=False), config, 3)(1) for axis in range(3)]
    places = shown[0].places
    assert places is not None
    assert places.extent_mm.tolist() == [pytest.approx([17 * 2.1, 22 * 1.3, 26 * 0.8])] * 6
    voxels = torch.stack([batch.images_hu[:, 0] for batch in shown], dim=-1)
    depth, height, width = (edge // 2 for edge in CROP)
    is_mirrored = voxels[:, depth, height, width + 1, 2] < voxels[:, depth, height, width, 2]
    # The volume is mirrored with the crop: its last column is then its first.
    voxels[is_mirrored, ..., 2] = torch.where(
        voxels[is_mirrored, ..., 2] < 0, float(PADDING_HU), VOLUME[2] - 1 - voxels[is_mirrored, ..., 2]
    )
    is_air = (voxels < 0).any(dim=-1)[:, None].float()
    is_inside = max_pool3d(is_air, 3, stride=1, padding=1)[:, 0] == 0  # air is blended in where the old crop ends
    assert (is_inside.flatten(1).float().mean(dim=1) > 0.2).all()
    # Linear between the corners, at the middle of each voxel.
    weights = [torch.stack([1 - along, along]) for along in ((torch.arange(edge) + 0.5) / edge for edge in CROP)]
    corners = places.points[:, 1:].reshape(-1, 2, 2, 2, 3)
    said = torch.einsum("pd,qh,rw,bpqra->bdhwa", *weights, corners) * torch.tensor(VOLUME) - 0.5
    assert (said - voxels)[is_inside].abs().max() < 1e-3
    torch.testing.assert_close(places.points[:, 0], corners.mean(dim=(1, 2, 3)))
    return set(is_mirrored.tolist())


def test_the_points_lie_where_the_volume_shows_what_the_crop_shows():
    still = replace(AugmentConfig(), thickness_probability=0, kernel_probability=0, noise_hu=0, offset_hu=0)
    unmoved = replace(still, rotation_deg=0, scale=0, shift_mm=0)
    assert require_places_of_what_is_shown(unmoved) == {True, False}
    assert require_places_of_what_is_shown(still) == {True, False}
    assert require_places_of_what_is_shown(replace(still, flip_probability=0)) == {False}
    assert require_places_of_what_is_shown(replace(still, rotation_deg=25, flip_probability=1)) == {True}
    assert require_places_of_what_is_shown(replace(unmoved, flip_probability=0)) == {False}


def test_places_that_nothing_moves_are_left_alone():
    batches = Batches(coordinates(0), 3, 3, labelled=False)
    before, after = batches(0).places, Augmented(batches, IDENTITY, 3)(0).places
    assert before is not None
    assert after is not None
    assert torch.equal(before.points, after.points)
    silent = coordinates(0)
    silent.sizes = None
    assert Augmented(Batches(silent, 3, 3, labelled=False), AugmentConfig(), 3)(0).places is None


def test_the_shares_of_several_processes_have_the_places_of_the_whole_batch():
    config, source = AugmentConfig(), coordinates(1)
    whole = Augmented(Batches(source, 6, 3, labelled=False), config, 3)(2).places
    parts = [
        Augmented(Batches(source, 6, 3, labelled=False, share=Share(index=i, of=3)), config, 3)(2) for i in range(3)
    ]
    assert whole is not None
    assert torch.equal(torch.cat([part.places.points for part in parts]), whole.points)  # type: ignore[union-attr]
