"""A block lets little of its attention through at first, knows where each voxel lies, and mixes what is near."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.types import Edges
from apatite.nn.unetrpp.attention import PairedAttentionConfig
from apatite.nn.unetrpp.block import FIRST_SHARE, Block, ResidualBlock

GRID: Edges = (2, 3, 4)
ATTENTION = PairedAttentionConfig(
    tokens=24,
    dim=4,
    heads=2,
    projection=5,
    shares_projection=True,
    projection_bias=True,
    fusion="concat",
    dropout=0.0,
    scrambled=False,
)


def block(num_residual: int = 1, dropout: float = 0.0) -> Block:
    torch.manual_seed(0)
    return Block(GRID, ATTENTION, num_residual=num_residual, dropout=dropout)


def without_convolutions(made: Block) -> Block:
    """Its last convolution silenced: what came through the attention is all there is."""
    last = made.mix[1]
    assert isinstance(last, nn.Conv3d)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return made.eval()


def test_a_fresh_block_hardly_attends():
    made, features = without_convolutions(block()), torch.randn(2, 4, *GRID)
    found = made(features)
    assert 0 < (found - features).abs().max() < 10 * FIRST_SHARE


def test_positions_lie_where_their_voxels_do():
    made = without_convolutions(block())
    nn.init.zeros_(made.gamma)
    with torch.no_grad():
        made.positions[0, 1 * 12 + 2 * 4 + 3] = torch.tensor([1.0, 2, 3, 4])
    found = made(torch.zeros(1, 4, *GRID))[0]
    assert found[:, 1, 2, 3].tolist() == [1, 2, 3, 4]
    assert found.count_nonzero() == 4


def test_what_the_attention_says_goes_to_the_voxels_of_its_tokens():
    made = without_convolutions(block())
    nn.init.ones_(made.gamma)
    features = torch.randn(1, 4, *GRID)
    said = made.attention(made.norm(features.flatten(2).mT)).mT.reshape(1, 4, *GRID)
    torch.testing.assert_close(made(features), features + said)


@pytest.mark.parametrize("num_residual", [1, 2])
def test_the_convolutions_add_to_what_was_attended(num_residual):
    made = block(num_residual).eval()
    nn.init.zeros_(made.gamma)
    features = torch.randn(2, 4, *GRID)
    assert len(made.residual) == num_residual
    torch.testing.assert_close(made(features), features + made.mix(made.residual(features)))


@pytest.mark.parametrize("incoming", [3, 4])
def test_a_residual_block_is_its_formula(incoming):
    torch.manual_seed(0)
    made = ResidualBlock(incoming, 4, nn.InstanceNorm3d)
    features = torch.randn(2, incoming, *GRID)

    def normed(values: Tensor) -> Tensor:
        axes = (2, 3, 4)
        return (values - values.mean(axes, keepdim=True)) / (values.var(axes, keepdim=True, correction=0) + 1e-5).sqrt()

    first = F.leaky_relu(normed(F.conv3d(features, made.first.weight, padding=1)), 0.01)
    second = normed(F.conv3d(first, made.second.weight, padding=1))
    across = features
    if incoming != 4:
        across = normed(F.conv3d(features, made.get_parameter("across.0.weight")))
    torch.testing.assert_close(made(features), F.leaky_relu(second + across, 0.01))


def test_whole_channels_are_dropped_in_training():
    made = block(dropout=0.5)
    nn.init.zeros_(made.gamma)
    features = torch.randn(8, 4, *GRID)
    dropped = made.mix[0].train()(features)
    is_gone = (dropped == 0).flatten(2)
    assert torch.equal(is_gone.any(2), is_gone.all(2))
    assert 0 < is_gone.all(2).sum() < 32


def test_positions_and_gamma_are_not_to_be_decayed():
    names = dict(block().named_parameters(recurse=False))
    assert set(Block.undecayed) == set(names)
