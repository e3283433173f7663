"""Sliding windows give MONAI's values, cover every voxel, and hold one crop-depth of slices at most."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from apatite.core.errors import ConfigError, ModelError
from apatite.segment import sliding
from apatite.segment.sliding import SlidingConfig, importance, slabs, slide, window_starts


@pytest.fixture
def network() -> nn.Module:
    """Its output depends on the place in the window, so positions and weights both show."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, 3, 3, padding=1))


@dataclass
class Reader:
    """A volume that notes what is asked of it."""

    voxels: Tensor
    asked: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        depth, height, width = self.voxels.shape[1:]
        return depth, height, width

    def read(self, begin: tuple[int, int, int], end: tuple[int, int, int]) -> Tensor:
        self.asked.append(end[0])
        return self.voxels[:, begin[0] : end[0], begin[1] : end[1], begin[2] : end[2]]


@pytest.mark.parametrize("shape", [(23, 17, 31), (8, 12, 10), (5, 30, 10), (21, 7, 4), (3, 5, 7), (9, 13, 11)])
@pytest.mark.parametrize(("overlap", "batch"), [(0.5, 2), (0.25, 5), (0.0, 1), (0.7, 3)])
def test_equals_monai(network: nn.Module, shape: tuple[int, int, int], overlap: float, batch: int) -> None:
    crop = (8, 12, 10)
    image = torch.randn(1, 2, *shape) * 100
    expected = sliding_window_inference(
        image, crop, 2, network, overlap=overlap, mode="gaussian", sigma_scale=0.125, cval=-1024.0
    )
    found = slide(image, network, SlidingConfig(crop=crop, overlap=overlap, batch=batch))
    np.testing.assert_allclose(found, expected[0].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("crop", [(8, 12, 10), (5, 16, 3), (1, 2, 64)])
def test_weights_equal_monai(crop: tuple[int, int, int]) -> None:
    torch.testing.assert_close(importance(crop), compute_importance_map(crop, mode="gaussian", sigma_scale=0.125))


@settings(deadline=None)
@given(edge=st.integers(1, 200), crop=st.integers(1, 60), overlap=st.floats(0, 0.95))
def test_windows_cover_an_axis_in_order(edge: int, crop: int, overlap: float) -> None:
    starts = window_starts(edge, crop, overlap)
    covered = {voxel for start in starts for voxel in range(start, start + crop)}
    assert covered == set(range(max(edge, crop)))
    assert starts == sorted(set(starts))


def test_a_reader_gives_the_same_and_into_a_float16_array(network: nn.Module) -> None:
    image = torch.randn(1, 2, 19, 14, 11)
    config = SlidingConfig(crop=(6, 8, 12), batch=3)
    whole = slide(image, network, config)
    np.testing.assert_array_equal(slide(Reader(image[0]), network, config), whole)
    out = np.full((3, 19, 14, 11), np.nan, dtype=np.float16)
    assert slide(image, network, config, out) is out
    np.testing.assert_allclose(out, whole, atol=2e-3)


def test_memory_does_not_grow_with_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    live: list[int] = []
    add = sliding._Blend.add

    def noted(blend: sliding._Blend, start: tuple[int, int, int], window: Tensor) -> None:
        add(blend, start, window)
        live.append(sum(value.numel() for value in vars(blend).values() if isinstance(value, Tensor)))

    monkeypatch.setattr(sliding._Blend, "add", noted)
    reader = Reader(torch.zeros(1, 200, 9, 7))
    for slab in slabs(reader, lambda windows: windows.expand(-1, 2, -1, -1, -1), SlidingConfig(crop=(8, 6, 5))):
        # A finished slab leaves before anything far below it is read.
        assert reader.asked[-1] <= slab.first + slab.values.shape[1] + 2 * 8
    # The formula of the module, and the Gaussian itself.
    assert max(live) == 8 * 9 * 7 * (2 + 1) + 8 * 6 * 5


def test_slabs_are_every_slice_once(network: nn.Module) -> None:
    for depth in (3, 8, 21):
        parts = list(slabs(torch.randn(1, 2, depth, 9, 7), network, SlidingConfig(crop=(8, 6, 10), overlap=0.6)))
        slices = [slab.first + k for slab in parts for k in range(slab.values.shape[1])]
        assert slices == list(range(depth))


def test_a_constant_stays_constant_and_padding_is_air() -> None:
    seen: list[Tensor] = []

    def network(windows: Tensor) -> Tensor:
        seen.append(windows)
        return torch.ones_like(windows) * 0.3

    np.testing.assert_allclose(
        slide(torch.full((1, 1, 3, 40, 9), 50.0), network, SlidingConfig(crop=(8, 6, 10))), 0.3, rtol=1e-6
    )
    assert set(torch.cat(seen).unique().tolist()) == {-1024.0, 50.0}
    assert seen[0].shape[2:] == (8, 6, 10)


def test_nonsense_is_refused(network: nn.Module) -> None:
    image = torch.zeros(1, 2, 9, 9, 9)
    with pytest.raises(ModelError, match="came out"):
        slide(image, lambda windows: windows[..., ::2], SlidingConfig(crop=(4, 4, 4)))
    with pytest.raises(ConfigError, match="does not fit"):
        slide(image, network, SlidingConfig(crop=(4, 4, 4)), np.zeros((2, 9, 9, 9)))
    with pytest.raises(ConfigError, match="one volume"):
        slide(image.expand(2, -1, -1, -1, -1), network, SlidingConfig(crop=(4, 4, 4)))
    for wrong in ({"overlap": 1.0}, {"batch": 0}, {"crop": (4, 0, 4)}):
        with pytest.raises(ConfigError):
            SlidingConfig(**{"crop": (4, 4, 4), **wrong})
