"""Augmentation is a function of its keys, keeps millimetres, and moves labels with the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.data.augment import (
    IDENTITY,
    AugmentConfig,
    augment,
    augment_annotated,
    draw,
    gaussian_matrix,
    thick_slices,
)

SPACING_MM = (0.5, 0.8, 2.0)
EVERYTHING = AugmentConfig(
    spacing_mm=SPACING_MM, mirror_pairs=((1, 3),), thickness_probability=0.5, kernel_probability=0.7
)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 1, 6, 10, 14, generator=torch.Generator().manual_seed(0)) * 100


@pytest.fixture
def targets() -> Tensor:
    return (torch.rand(5, 3, 6, 10, 14, generator=torch.Generator().manual_seed(1)) > 0.7).float()


def blob(at_mm: tuple[float, float, float], shape: tuple[int, int, int], sigma_mm: float = 3.0) -> Tensor:
    """A Gaussian at a point (i, j, k) in mm from the middle of an anisotropic grid."""
    square = torch.zeros(shape)
    for axis, (edge, spacing, at) in enumerate(zip(shape[::-1], SPACING_MM, at_mm, strict=True)):
        place = (torch.arange(edge) - (edge - 1) / 2) * spacing - at
        square = square + (place**2).reshape([-1 if axis == 2 - other else 1 for other in range(3)])
    return torch.exp(-square / (2 * sigma_mm**2))


def centroid_mm(values: Tensor) -> np.ndarray:
    weights = values.double().numpy()
    centre = np.array(ndimage.center_of_mass(weights)) - (np.array(values.shape) - 1) / 2
    return centre[::-1] * np.array(SPACING_MM)


def test_identity_is_bit_equal(images: Tensor, targets: Tensor) -> None:
    new_images, new_targets = augment(images, targets, IDENTITY, seed=1, step=2, sample_ids=range(5))
    assert torch.equal(new_images, images)
    assert new_targets is not None and torch.equal(new_targets, targets)


def test_the_same_keys_give_the_same_and_other_keys_do_not(images: Tensor, targets: Tensor) -> None:
    before = images.clone()
    first = augment(images, targets, EVERYTHING, seed=1, step=2, sample_ids=range(5))
    again = augment(images, targets, EVERYTHING, seed=1, step=2, sample_ids=range(5))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert torch.equal(images, before)
    for seed, step, ids in ((2, 2, range(5)), (1, 3, range(5)), (1, 2, range(1, 6))):
        other = augment(images, targets, EVERYTHING, seed=seed, step=step, sample_ids=ids)
        assert not torch.isclose(first[0], other[0]).flatten(1).all(dim=1).any()


def test_a_batch_equals_its_samples_one_by_one(images: Tensor, targets: Tensor) -> None:
    whole = augment(images, targets, EVERYTHING, seed=4, step=0, sample_ids=range(10, 15))
    for b in range(5):
        one = augment(images[b : b + 1], targets[b : b + 1], EVERYTHING, seed=4, step=0, sample_ids=[10 + b])
        torch.testing.assert_close(one[0][0], whole[0][b], rtol=1e-5, atol=1e-2)
        torch.testing.assert_close(one[1][0], whole[1][b], rtol=0, atol=1e-5)


def test_images_do_not_depend_on_the_targets(images: Tensor, targets: Tensor) -> None:
    with_targets, _ = augment(images, targets, EVERYTHING, seed=4, step=0, sample_ids=range(5))
    without, none = augment(images, None, EVERYTHING, seed=4, step=0, sample_ids=range(5))
    assert none is None
    torch.testing.assert_close(with_targets, without)


def test_every_key_counts_in_a_draw() -> None:
    draws = {draw(EVERYTHING, *keys).angles_rad for keys in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2))}
    assert len(draws) == 5


def test_a_stage_does_not_change_the_draws_of_another() -> None:
    whole = draw(EVERYTHING, 1, 2, 3)
    still = draw(replace(EVERYTHING, rotation_deg=0, noise_hu=0, flip_probability=0), 1, 2, 3)
    assert (still.scale, still.shift_mm, still.thickness, still.offset_hu) == (
        whole.scale,
        whole.shift_mm,
        whole.thickness,
        whole.offset_hu,
    )


def test_mirroring_is_along_width_and_swaps_paired_labels(images: Tensor, targets: Tensor) -> None:
    config = replace(IDENTITY, flip_probability=1.0, mirror_pairs=((3, 1),))
    new_images, new_targets = augment(images, targets, config, seed=0, step=0, sample_ids=range(5))
    assert torch.equal(new_images, images.flip(4))
    assert new_targets is not None
    assert torch.equal(new_targets[:, 0], targets[:, 2].flip(3))
    assert torch.equal(new_targets[:, 1], targets[:, 1].flip(3))
    assert torch.equal(new_targets[:, 2], targets[:, 0].flip(3))


def test_what_was_annotated_is_mirrored_with_the_same_draws(images: Tensor, targets: Tensor) -> None:
    config = replace(IDENTITY, flip_probability=0.5, mirror_pairs=((1, 3),))
    is_annotated = torch.tensor([[True, False, False]]).expand(5, -1)
    new_images, _ = augment(images, targets, config, seed=3, step=7, sample_ids=range(5))
    mirrored = [torch.equal(new, old.flip(3)) for new, old in zip(new_images, images, strict=True)]
    assert 0 < sum(mirrored) < 5
    found = augment_annotated(is_annotated, config, seed=3, step=7, sample_ids=range(5))
    assert found.tolist() == [[not m, False, m] for m in mirrored]


@pytest.mark.parametrize("at_mm", [(7.0, 5.0, 6.0), (-8.0, 3.0, 0.0), (0.0, -6.0, 9.0)])
def test_rotation_is_rigid_in_millimetres(at_mm: tuple[float, float, float]) -> None:
    shape = (24, 48, 80)
    config = replace(IDENTITY, spacing_mm=SPACING_MM, rotation_deg=30.0)
    image = blob(at_mm, shape).expand(6, 1, *shape)
    air, moved = augment(image * 0 - 1024, image, config, seed=5, step=0, sample_ids=range(6))
    assert moved is not None
    assert torch.all(air == -1024)
    places = np.stack([centroid_mm(sample[0]) for sample in moved])
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), np.linalg.norm(at_mm), atol=0.15)
    assert np.linalg.norm(places - at_mm, axis=1).max() > 1.0
    # Rigid, so the volume stays; on voxels that were taken for cubes it would not.
    np.testing.assert_allclose(moved.sum(dim=(1, 2, 3, 4)), image.sum(dim=(1, 2, 3, 4)), rtol=0.01)


def test_scale_and_shift_are_in_millimetres() -> None:
    shape, at_mm = (24, 48, 80), (4.0, 3.0, 5.0)
    image = blob(at_mm, shape).expand(4, 1, *shape)
    config = replace(IDENTITY, spacing_mm=SPACING_MM, scale=0.2)
    _, moved = augment(image, image, config, seed=5, step=0, sample_ids=range(4))
    for sample, values in enumerate(moved):
        np.testing.assert_allclose(centroid_mm(values[0]), np.array(at_mm) * draw(config, 5, 0, sample).scale, atol=0.1)
    config = replace(IDENTITY, spacing_mm=SPACING_MM, shift_mm=4.0)
    _, moved = augment(image, image, config, seed=5, step=0, sample_ids=range(4))
    for sample, values in enumerate(moved):
        np.testing.assert_allclose(
            centroid_mm(values[0]), np.array(at_mm) - draw(config, 5, 0, sample).shift_mm, atol=0.1
        )


def test_outside_there_is_air_and_no_label() -> None:
    images, targets = torch.full((4, 1, 6, 10, 14), 40.0), torch.ones(4, 2, 6, 10, 14)
    config = replace(IDENTITY, shift_mm=30.0)
    moved, labels = augment(images, targets, config, seed=2, step=0, sample_ids=range(4))
    assert labels is not None
    assert moved.min() == -1024.0 and moved.max() <= 40.001
    assert torch.equal(labels[:, :1] == 0, moved == -1024.0)


def test_image_and_target_move_alike(targets: Tensor) -> None:
    config = replace(
        EVERYTHING, thickness_probability=0, kernel_probability=0, noise_hu=0, offset_hu=0, mirror_pairs=()
    )
    images = targets[:, :1] * 1000 - 1024
    new_images, new_targets = augment(images, targets[:, :1], config, seed=9, step=1, sample_ids=range(5))
    torch.testing.assert_close((new_images + 1024) / 1000, new_targets, rtol=0, atol=1e-5)


@settings(deadline=None)
@given(depth=st.integers(1, 40), thickness=st.integers(1, 6), phase=st.integers(0, 5))
def test_thick_slices_are_means_of_neighbours(depth: int, thickness: int, phase: int) -> None:
    matrix = thick_slices(depth, thickness, phase % thickness)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-5)
    assert matrix.min() >= 0
    reach = np.abs(np.subtract.outer(np.arange(depth), np.arange(depth)))
    assert reach[matrix > 1e-6].max() < 2 * thickness
    if thickness == 1:
        np.testing.assert_array_equal(matrix, np.eye(depth))


def test_thick_slices_by_hand() -> None:
    # Slices 0 | 1 2 | 3 4 averaged: 0, 15, 35 at the places 0, 1.5, 3.5.
    found = thick_slices(5, 2, 1) @ np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    np.testing.assert_allclose(found, [0, 10, 20, 30, 35], rtol=1e-6)
    spike = thick_slices(6, 3, 0) @ np.array([0.0, 90.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(spike, [30, 30, 20, 10, 0, 0], rtol=1e-5, atol=1e-5)


def test_blur_equals_scipy_away_from_the_border(images: Tensor) -> None:
    plane = images[0, 0, 0].numpy()
    height, width = gaussian_matrix(10, [0.8])[0], gaussian_matrix(14, [0.8])[0]
    expected = ndimage.gaussian_filter(plane.astype(np.float64), 0.8, truncate=8)
    np.testing.assert_allclose((height @ plane @ width.T)[4:-4, 4:-4], expected[4:-4, 4:-4], atol=0.05)
    np.testing.assert_array_equal(gaussian_matrix(7, [0.0])[0], np.eye(7))


def test_kernels_soften_and_sharpen_but_keep_a_constant(images: Tensor) -> None:
    config = replace(IDENTITY, kernel_probability=1.0)
    ids = range(40)
    flat = torch.full((40, 1, 3, 10, 14), 55.0)
    torch.testing.assert_close(augment(flat, None, config, 1, 0, ids)[0], flat, rtol=1e-4, atol=1e-2)
    noisy = images[:1].expand(40, -1, -1, -1, -1)
    ratio = augment(noisy, None, config, 1, 0, ids)[0].std(dim=(1, 2, 3, 4)) / noisy.std()
    assert (ratio < 0.9).sum() > 8 and (ratio > 1.1).sum() > 8


def test_noise_and_offset_have_the_drawn_size_and_leave_air_alone() -> None:
    image = torch.full((6, 1, 8, 40, 50), 100.0)
    image[:, :, :, :, :10] = -1024.0
    config = replace(IDENTITY, noise_hu=20.0, offset_hu=15.0)
    changed, _ = augment(image, None, config, seed=1, step=0, sample_ids=range(6))
    assert torch.all(changed[..., :10] == -1024.0)
    for sample, values in enumerate(changed[..., 10:]):
        item = draw(config, 1, 0, sample)
        assert abs(float(values.mean()) - 100 - item.offset_hu) < 0.7
        assert abs(float(values.std()) / item.noise_hu - 1) < 0.05
        assert item.noise_hu < 20 and abs(item.offset_hu) < 15
    assert torch.corrcoef(changed[..., 10:].flatten(1)).fill_diagonal_(0).abs().max() < 0.1


def test_nonsense_is_refused(images: Tensor, targets: Tensor) -> None:
    wrong = [
        {"flip_probability": 1.2},
        {"scale": 1.0},
        {"noise_hu": -1.0},
        {"spacing_mm": (1.0, 0.0, 1.0)},
        {"thickness_voxels": (3, 2)},
        {"mirror_pairs": ((1, 2), (2, 3))},
        {"mirror_pairs": ((0, 2),)},
    ]
    for values in wrong:
        with pytest.raises(ConfigError):
            AugmentConfig(**values)
    with pytest.raises(ConfigError, match="3 labels"):
        augment(images, targets, replace(IDENTITY, flip_probability=1.0, mirror_pairs=((1, 4),)), 0, 0, range(5))
    with pytest.raises(ConfigError, match="sample ids"):
        augment(images, targets, IDENTITY, 0, 0, range(4))
