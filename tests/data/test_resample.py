"""One loop on the CPU reads the same values as torch's grid, also at and beyond every border."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from apatite.core.rng import generator
from apatite.data.resample import _resample_on_device, resample

SHAPE = (5, 8, 11)
IDENTITY = np.eye(3, 4)


def random_maps(count: int, spread: float) -> np.ndarray:
    return IDENTITY + spread * generator(0, "maps").standard_normal((count, 3, 4))


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.5])
@pytest.mark.parametrize("outside", [0.0, -1024.0])
def test_as_torch_does_it(spread, outside):
    images = 300 * torch.randn(6, 2, *SHAPE, generator=torch.Generator().manual_seed(1))
    maps = random_maps(6, spread)
    assert torch.allclose(resample(images, maps, outside), _resample_on_device(images, maps, outside), atol=0.05)


def test_in_double_precision_as_scipy():
    image = generator(0, "image").standard_normal(SHAPE)
    # From the new index (k, j, i) to the old one, in scipy's way, and the same as a map of faces from -1 to 1.
    matrix = np.eye(3) + 0.2 * generator(0, "m").standard_normal((3, 3))
    offset = np.array([0.7, -1.3, 0.4])
    expected = affine_transform(image, matrix, offset, order=1, mode="grid-constant", cval=-7.0)
    edges = np.array(SHAPE)
    linear = matrix / edges[:, None] * edges
    shift = (2 * (matrix @ ((edges - 1) / 2) + offset) + 1) / edges - 1
    flipped = np.concatenate([linear[::-1, ::-1], shift[::-1, None]], axis=1)[None]
    found = resample(torch.from_numpy(image).float()[None, None], flipped, -7.0)
    assert np.allclose(found[0, 0].numpy(), expected, atol=1e-4)


def test_the_identity_changes_nothing_and_views_are_read_right():
    images = torch.randn(2, 1, *SHAPE)
    assert torch.allclose(resample(images, np.stack([IDENTITY] * 2), 0.0), images, atol=1e-6)
    turned = images.transpose(-1, -2)
    assert torch.allclose(resample(turned, np.stack([IDENTITY] * 2), 0.0), turned, atol=1e-6)


def test_whole_voxels_are_shifted_exactly_and_air_comes_in():
    images = torch.randn(1, 1, *SHAPE)
    shifted = IDENTITY.copy()
    shifted[:, 3] = 2 * np.array([2, -1, 1]) / np.array(SHAPE[::-1])
    found = resample(images, shifted[None], -1024.0)
    assert torch.allclose(found[0, 0, :-1, 1:, :-2], images[0, 0, 1:, :-1, 2:], atol=1e-4)
    assert torch.allclose(found[0, 0, -1], torch.tensor(-1024.0))
    assert torch.allclose(found[0, 0, :, 0], torch.tensor(-1024.0))
    assert torch.allclose(found[0, 0, :, :, -2:], torch.tensor(-1024.0))
