"""Augmentation on top of batches stays a function of the step, and takes image, target and annotation along."""

import torch

from apatite.data.augment import IDENTITY, AugmentConfig
from apatite.data.augmented import Augmented
from apatite.data.batches import Batch

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
