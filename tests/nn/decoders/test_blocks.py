"""Blocks against MONAI's, and norms of maps too small for an instance norm against the mean and spread by hand."""

import pytest
import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock
from torch import nn
from torch.nn import functional as F

from apatite.nn.decoders.blocks import FEWEST_VOXELS, MapNorm, ResidualBlock, UpStep, double_block, halved

AFFINE = ("instance", {"affine": True})


def random_norm(channels: int) -> MapNorm:
    norm = MapNorm(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_a_map_of_enough_voxels_has_an_instance_norm():
    norm = random_norm(3)
    features = torch.randn(2, 3, 2, 1, 4)
    assert features[0, 0].numel() == FEWEST_VOXELS
    assert torch.equal(norm(features), F.instance_norm(features, weight=norm.weight, bias=norm.bias))


@pytest.mark.parametrize("edges", [(1, 1, 1), (1, 2, 1), (1, 1, 7)])
def test_a_smaller_map_shares_one_mean_and_spread_in_all_channels(edges):
    norm = random_norm(3)
    features = 5 + 3 * torch.randn(2, 3, *edges)
    for mode in (norm.train(), norm.eval()):
        made = mode(features)
        for sample, normalised in zip(features, made, strict=True):
            spread = sample.var(unbiased=False).add(1e-5).sqrt()
            by_hand = (sample - sample.mean()) / spread * norm.weight.view(3, 1, 1, 1) + norm.bias.view(3, 1, 1, 1)
            torch.testing.assert_close(normalised, by_hand)


def names_of(block: nn.Module, names: dict[str, str]) -> dict[str, torch.Tensor]:
    """The weights of a block of ours under MONAI's names."""
    return {names[key.rpartition(".")[0]] + key[key.rfind(".") :]: value for key, value in block.state_dict().items()}


@pytest.mark.parametrize("incoming", [5, 6])
def test_a_residual_block_is_monais(incoming):
    torch.manual_seed(0)
    ours, theirs = ResidualBlock(incoming, 6), UnetResBlock(3, incoming, 6, 3, 1, AFFINE)
    names = {"smooth.0": "conv1.conv", "smooth.1": "norm1", "again.0": "conv2.conv", "again.1": "norm2"}
    names |= {"across.0": "conv3.conv", "across.1": "norm3"}
    for norm in (module for module in ours.modules() if isinstance(module, MapNorm)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    theirs.load_state_dict(names_of(ours, names), strict=True)
    features = torch.randn(2, incoming, 3, 4, 5)
    torch.testing.assert_close(ours(features), theirs(features.clone()))


def test_a_double_block_is_monais():
    torch.manual_seed(0)
    ours, theirs = double_block(5, 6), UnetBasicBlock(3, 5, 6, 3, 1, AFFINE)
    names = {"0.0": "conv1.conv", "0.1": "norm1", "1.0": "conv2.conv", "1.1": "norm2"}
    theirs.load_state_dict(names_of(ours, names), strict=True)
    features = torch.randn(2, 5, 3, 4, 5)
    torch.testing.assert_close(ours(features), theirs(features.clone()))


def test_odd_edges_are_halved_upwards_and_found_again():
    features = torch.arange(2 * 3 * 5.0).reshape(1, 1, 2, 3, 5)
    once = halved(features)
    assert once.tolist() == [[[[[21, 23, 24], [26, 28, 29]]]]]
    assert halved(features, 2).tolist() == [[[[[28, 29]]]]]
    assert torch.equal(halved(features, 0), features)
    step = UpStep(1, 2, (2, 2, 2), num_skips=1, upsampling="transposed", block=lambda wide, _: nn.Conv3d(wide, 1, 1))
    with torch.no_grad():
        step.up.weight.fill_(1)  # pyright: ignore[reportArgumentType, reportCallIssue]
        step.block.weight.copy_(torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1, 1))  # pyright: ignore
        step.block.bias.zero_()  # pyright: ignore[reportCallIssue]
    back = step(once, [torch.zeros(1, 2, 2, 3, 5)])
    assert back[0, 0].tolist() == [[[21, 21, 23, 23, 24], [21, 21, 23, 23, 24], [26, 26, 28, 28, 29]]] * 2
