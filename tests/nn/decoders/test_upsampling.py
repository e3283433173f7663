"""Both ways of doubling against the same sums written out."""

import pytest
import torch
from torch.nn import functional as F

from apatite.core.config import load
from apatite.core.errors import ConfigError
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.upsampling import UPSAMPLINGS, doubling, doubling_plan, finer


@pytest.mark.parametrize(
    ("patch", "plan"),
    [((2, 4, 4), [(1, 2, 2), (2, 2, 2)]), ((8, 2, 1), [(2, 1, 1), (2, 1, 1), (2, 2, 1)]), ((4, 4, 4), [(2, 2, 2)] * 2)],
)
def test_doubling_plan(patch, plan):
    assert doubling_plan(patch) == plan
    stride = patch
    for factor in plan:
        stride = finer(stride, factor)
    assert stride == (1, 1, 1)


def test_patch_edges_that_are_no_powers_of_two_are_refused():
    with pytest.raises(ConfigError, match="powers of two"):
        doubling_plan((3, 2, 2))


def test_nearest_neighbour_then_a_convolution():
    torch.manual_seed(0)
    layer = doubling("nearest", 3, 5, (1, 2, 2), bias=True)
    features = torch.randn(2, 3, 2, 3, 4)
    repeated = features.repeat_interleave(2, 3).repeat_interleave(2, 4)
    by_hand = F.conv3d(repeated, layer.weight, layer.bias, padding=1)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(layer(features), by_hand)


@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 2, 2), (2, 1, 1)])
def test_a_transposed_convolution_gives_each_child_weights_of_its_own(factor):
    torch.manual_seed(0)
    layer = doubling("transposed", 3, 5, factor)
    features = torch.randn(2, 3, 2, 3, 4)
    children = torch.einsum("bizyx,iodhw->bozdyhxw", features, layer.weight)  # pyright: ignore[reportArgumentType]
    edges = [edge * by for edge, by in zip((2, 3, 4), factor, strict=True)]
    torch.testing.assert_close(layer(features), children.reshape(2, 5, *edges))


def test_constant_features_stay_constant_under_nearest_only():
    torch.manual_seed(0)
    inner = {}
    for name in UPSAMPLINGS:
        made = doubling(name, 3, 4, (2, 2, 2))(torch.ones(1, 3, 4, 4, 4))  # pyright: ignore[reportArgumentType]
        inner[name] = made[0, :, 2:-2, 2:-2, 2:-2].std(dim=(1, 2, 3)).max().item()
    assert inner["nearest"] < 1e-6
    assert inner["transposed"] > 0.05


def test_an_unknown_way_is_named():
    with pytest.raises(ConfigError, match="nearst"):
        load(DecoderConfig, {"name": "sfpn", "upsampling": "nearst"})
