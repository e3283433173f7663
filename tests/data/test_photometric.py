"""Values of views change by their keys alone; air and places stay."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from apatite.core.errors import ConfigError
from apatite.core.scan import PADDING_HU
from apatite.data.photometric import PhotometricConfig, vary

ALL = PhotometricConfig(scale=0.2, offset_hu=20, noise_hu=10, kernel_probability=0.8)


@pytest.fixture
def images_hu() -> Tensor:
    images = torch.randn(4, 1, 5, 8, 11, generator=torch.Generator().manual_seed(0)) * 200
    images[..., :3] = PADDING_HU
    return images


def test_nothing_changes_unless_asked(images_hu: Tensor) -> None:
    assert not PhotometricConfig().is_on
    assert torch.equal(vary(images_hu, PhotometricConfig(), 1, 2, range(4), 0), images_hu)


@pytest.mark.parametrize("stage", ["scale", "offset_hu", "noise_hu", "kernel_probability"])
def test_each_stage_changes_values_by_itself(stage: str, images_hu: Tensor) -> None:
    config = replace(PhotometricConfig(), **{stage: getattr(ALL, stage)})
    assert config.is_on
    changed = vary(images_hu, config, 1, 2, range(4), 0)
    assert changed.shape == images_hu.shape
    assert not torch.equal(changed, images_hu)


def test_draws_go_by_seed_step_sample_and_view(images_hu: Tensor) -> None:
    same = images_hu[:1].expand(4, -1, -1, -1, -1)
    base = vary(same, ALL, 1, 2, range(4), 0)
    assert torch.equal(vary(same[:2], ALL, 1, 2, range(2, 4), 0), base[2:])
    assert not torch.equal(base[0], base[1])
    for other in (vary(same, ALL, 2, 2, range(4), 0), vary(same, ALL, 1, 3, range(4), 0)):
        assert not torch.equal(other[0], base[0])
    assert not torch.equal(vary(same, ALL, 1, 2, range(4), 1)[0], base[0])


def test_values_are_scaled_around_water_and_air_stays(images_hu: Tensor) -> None:
    config = PhotometricConfig(scale=0.25)
    images_hu[:, :, 0, 0, 5], images_hu[:, :, 0, 0, 6], images_hu[:, :, 0, 0, 7] = 0.0, 400.0, -1000.0
    changed = vary(images_hu, config, 0, 0, range(4), 0)
    assert changed[:, 0, 0, 0, 5].tolist() == [0.0] * 4
    factors = changed[:, 0, 0, 0, 6] / 400
    assert factors.min().item() >= 0.75 and factors.max().item() <= 1.25
    assert factors.unique().numel() == 4
    assert torch.allclose(changed[:, 0, 0, 0, 7], (-1000 * factors).clamp(min=PADDING_HU))
    assert (changed[..., :3] == PADDING_HU).all()
    assert changed.min().item() >= PADDING_HU


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 1.0},
        {"scale": -0.1},
        {"scale": float("nan")},
        {"noise_hu": -1.0},
        {"sharpen": float("nan")},
        {"kernel_probability": 1.5},
    ],
)
def test_impossible_strengths_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        PhotometricConfig(**settings)
