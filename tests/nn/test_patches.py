import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.nn.patches import patchify, place_tokens, take_tokens, token_edges, unpatchify


def test_second_patch_is_the_next_along_width():
    x = torch.zeros(1, 1, 2, 4, 6)
    x[..., 0:2, 0:2, 2:4] = 1
    assert patchify(x, (2, 2, 2)).sum(dim=-1).tolist() == [[0, 8, 0, 0, 0, 0]]


def test_tokens_run_width_height_depth_and_voxels_likewise_with_channel_last():
    depth, height, width = torch.meshgrid(torch.arange(4), torch.arange(6), torch.arange(10), indexing="ij")
    code = (depth * 10000 + height * 100 + width).float()
    x = torch.stack([code, -code])[None]
    rows = patchify(x, (2, 3, 5))
    assert rows.shape == (1, 2 * 2 * 2, 2 * 3 * 5 * 2)
    # Token 3 is (depth 0, height 1, width 1); its first voxel is at (0, 3, 5), its second at (0, 3, 6).
    assert rows[0, 3, :4].tolist() == [305.0, -305.0, 306.0, -306.0]
    # Token 4 is the first of the second layer.
    assert rows[0, 4, 0].item() == 20000.0


def test_unpatchify_is_the_inverse_on_unequal_edges():
    x = torch.randn(2, 3, 4, 6, 10)
    assert torch.equal(unpatchify(patchify(x, (2, 3, 5)), (2, 2, 2), (2, 3, 5)), x)


def test_take_and_place_are_inverse():
    tokens = torch.randn(2, 7, 3)
    chosen = torch.tensor([[0, 4, 6], [1, 2, 3]])
    taken = take_tokens(tokens, chosen)
    assert torch.equal(taken[1, 2], tokens[1, 3])
    placed = place_tokens(torch.zeros_like(tokens), taken, chosen)
    assert torch.equal(take_tokens(placed, chosen), taken)
    assert placed.abs().sum(dim=-1).bool().sum() == 6


@pytest.mark.parametrize(("crop", "word"), [((4, 8, 8), "smaller"), ((9, 8, 8), "whole number")])
def test_a_crop_that_is_no_whole_number_of_patches_is_refused(crop, word):
    with pytest.raises(ConfigError, match=word):
        token_edges(crop, (8, 4, 4))
